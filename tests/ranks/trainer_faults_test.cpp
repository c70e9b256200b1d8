// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "ranks/fault.h"

namespace tests {
namespace {

constexpr const char* kLate = "rank R did not come within 2000 ms";

constexpr Fault kFaults[] = {{"dataset", 65, 0.5, 1, "a cable was pulled"},
                             {"loss", 70, 0.5, 1, "train_step failed at epoch 1, update 5"},
                             {"optimizer", 70, 0.5, 1, "a cable was pulled"},
                             {"evaluation", 70, 0.5, 1, "calculate_eval_batch_loss"},
                             {"int", 70, 0.5, 1, "an object that is no std::exception"},
                             {"memory", 71, 0.5, 1, "train_step failed at epoch 1, update 5"},
                             {"kill", 137, 2, 0, ""},
                             {"hang", 75, 2.5, 1, kLate},
                             {"begin", 75, 2.5, 1, kLate},
                             {"before", 75, 3.5, 1, "not all ranks came within 2000 ms"},
                             {"gather", 75, 2.5, 1, "did not come within 2000 ms"},
                             {"on_training_run_start", 70, 0.5, 1, "on_training_run_start failed"},
                             {"on_train_epoch_start", 70, 0.5, 1, "on_train_epoch_start failed"},
                             {"on_train_step_start", 70, 0.5, 1, "on_train_step_start failed"},
                             {"on_train_step_end", 70, 0.5, 1, "on_train_step_end failed"},
                             {"on_train_epoch_end", 70, 0.5, 1, "on_train_epoch_end failed"},
                             {"on_eval_step_end", 70, 0.5, 1, "on_eval_step_end failed"},
                             {"on_training_run_epoch_end", 70, 0.5, 1, "on_training_run_epoch_end"},
                             {"on_training_run_end", 70, 0.5, 1, "on_training_run_end failed"},
                             {"on_init_end", 70, 0.5, 1, "on_init_end failed"},
                             {"on_eval_epoch_start", 70, 0.5, 1, "on_eval_epoch_start failed"},
                             {"on_eval_step_start", 70, 0.5, 1, "on_eval_step_start failed"},
                             {"on_eval_epoch_end", 70, 0.5, 1, "on_eval_epoch_end failed"},
                             {"on_evaluation_run_start", 70, 0.5, 1, "on_evaluation_run_start"},
                             {"on_evaluation_run_end", 70, 0.5, 1, "on_evaluation_run_end failed"},
                             {"on_stop_training_error", 70, 0.5, 1, "on_stop_training_error"}};

class TrainerFault : public testing::TestWithParam<Fault> {};

TEST_P(TrainerFault, OfOneRankEndsTheJobWithOneLine) {
  const auto& fault = GetParam();
  auto random = random_of(fault.name);
  for (int trial = 0; trial < number_of_trials(1, 20); ++trial) {
    const int ranks = 2 + static_cast<int>(random() % 2);
    const int rank = static_cast<int>(random() % static_cast<unsigned>(ranks));
    const auto end =
        run_job(ranks, {TRAINER_FAULT_PROGRAM, fault.name, std::to_string(rank), "2000"});
    SCOPED_TRACE(testing::Message()
                 << fault.name << " on rank " << rank << " of " << ranks << "; stderr:\n"
                 << end.err);
    expect_end(end, fault, rank);
  }
}

INSTANTIATE_TEST_SUITE_P(In, TrainerFault, testing::ValuesIn(kFaults),
                         [](const auto& fault) { return fault.param.name; });

TEST(TrainerJob, WithoutAFaultEndsWell) {
  const auto end = run_job(3, {TRAINER_FAULT_PROGRAM, "none", "0", "5000"});
  EXPECT_EQ(end.status, 0) << end.err;
  EXPECT_EQ(end.orphans, 0);
}

}  // namespace
}  // namespace tests
