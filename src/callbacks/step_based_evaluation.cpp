// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/step_based_evaluation.h"

#include <utility>

#include "base/text.h"
#include "callbacks/evaluation_names.h"
#include "callbacks/setting.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

constexpr const char* kStepBasedEvaluation = "StepBasedEvaluation";

}  // namespace

StepBasedEvaluation::StepBasedEvaluation(StepBasedEvaluationOptions options)
    : options_(std::move(options)) {
  OptionCheck check(kStepBasedEvaluation);
  check.require(options_.every_updates >= 1,
                concat("every_updates must be >= 1, got ", options_.every_updates,
                       "; it is the number of updates from one evaluation to the next"));
  check.require(!options_.limit_batches || *options_.limit_batches >= 1,
                concat("limit_batches must be >= 1, got ", options_.limit_batches.value_or(1),
                       "; leave it out for no limit"));
  check_prefix(check, options_.prefix);
  check.throw_if_any();
}

std::string StepBasedEvaluation::settings() const {
  return concat("every_updates ", options_.every_updates, ", limit_batches ",
                setting(options_.limit_batches), ", prefix ", options_.prefix);
}

std::vector<std::string> StepBasedEvaluation::metric_names(const Trainer& trainer) const {
  return evaluation_names(trainer, options_.prefix);
}

void StepBasedEvaluation::on_training_run_start(Trainer& trainer, const TrainingRunStart& event) {
  if (event.config.eval_rows) return;
  trainer.accelerator().together(kStepBasedEvaluation, [] {
    throw ArgumentError(
        concat(kStepBasedEvaluation,
               ": the run has no evaluation dataset; set eval_dataset of TrainOptions"));
  });
}

void StepBasedEvaluation::on_train_step_end(Trainer& trainer, const TrainStepEnd& event) {
  if (event.update_ended) after_update(trainer, event.updates);
}

void StepBasedEvaluation::on_train_epoch_end(Trainer& trainer, const TrainEpochEnd& event) {
  if (event.update_ended) after_update(trainer, event.updates);
}

void StepBasedEvaluation::after_update(Trainer& trainer, std::int64_t updates) const {
  if (updates % options_.every_updates != 0) return;
  trainer.evaluate_intermediate(
      {.prefix = options_.prefix, .limit_batches = options_.limit_batches});
}

}  // namespace torch_accelerated
