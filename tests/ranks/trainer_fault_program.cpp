// SPDX-License-Identifier: Apache-2.0
//
// mpirun -n N trainer_fault_program FAULT RANK TIMEOUT_MS: a run of a Trainer and an evaluation in
// which RANK does what FAULT says, at update 5 or in the event of that name. Prints
// "fault at <ns>" to stdout before.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <thread>

namespace ta = torch_accelerated;

namespace {

constexpr std::int64_t kUpdate = 5;

/// What is to go wrong, where, and when.
struct Fault {
  std::string name;
  int rank;
  int timeout_ms;
};

void print_time() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  std::printf("fault at %lld\n", static_cast<long long>(now.tv_sec) * 1'000'000'000 + now.tv_nsec);
  std::fflush(stdout);
}

class FaultyTrainer : public ta::Trainer {
 public:
  FaultyTrainer(torch::nn::Sequential net, torch::optim::Optimizer& optimizer,
                ta::Accelerator& ranks, const Fault& fault)
      : Trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &ranks), fault_(fault) {}

  bool is_fault(const std::string& name) const {
    return fault_.name == name && accelerator().rank() == fault_.rank;
  }

  bool is_time_for(const std::string& name) const {
    return is_fault(name) && progress().update == kUpdate;
  }

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    if (is_time_for("loss")) fail();
    if (fault_.name == "on_stop_training_error") request_stop("there would be no such event");
    if (is_time_for("int")) {
      print_time();
      throw 42;
    }
    if (is_time_for("kill")) {
      print_time();
      raise(SIGKILL);
    }
    if (is_time_for("hang")) {
      print_time();
      for (;;) pause();
    }
    if (is_time_for("memory")) {
      print_time();
      throw std::bad_alloc();
    }
    if (is_time_for("gather")) {
      print_time();
      accelerator().gather(torch::ones({1}));
    }
    return Trainer::calculate_train_batch_loss(batch);
  }
  void optimizer_step(torch::optim::Optimizer& optimizer) override {
    if (is_time_for("optimizer")) fail();
    Trainer::optimizer_step(optimizer);
  }
  ta::StepOutput calculate_eval_batch_loss(const ta::Batch& batch) override {
    if (is_fault("evaluation")) fail();
    return Trainer::calculate_eval_batch_loss(batch);
  }

 private:
  void fail() const {
    print_time();
    throw std::runtime_error("a cable was pulled");
  }

  Fault fault_;
};

/// Rows of which one can't be read.
struct Rows {
  const FaultyTrainer* const* trainer;
  std::int64_t size() const { return 400; }
  ta::Sample get(std::int64_t index) const {
    if (*trainer != nullptr && (*trainer)->is_time_for("dataset")) {
      print_time();
      throw std::runtime_error("a cable was pulled");
    }
    const auto value = torch::full({4}, static_cast<float>(index) / 400);
    return {{"data", value}, {"target", value.slice(0, 0, 3)}};
  }
};

/// Throws in the event that the fault is called after; "begin" never returns from the first.
class FaultyCallback : public ta::Callback {
 public:
  void on_init_end(ta::Trainer& trainer, const ta::InitEnd& event) override {
    fail(trainer, event);
    if (!is_fault(trainer, "begin")) return;
    print_time();
    for (;;) pause();
  }
  void on_training_run_start(ta::Trainer& t, const ta::TrainingRunStart& e) override { fail(t, e); }
  void on_train_epoch_start(ta::Trainer& t, const ta::TrainEpochStart& e) override { fail(t, e); }
  void on_train_step_start(ta::Trainer& t, const ta::TrainStepStart& e) override { fail(t, e); }
  void on_train_step_end(ta::Trainer& t, const ta::TrainStepEnd& e) override { fail(t, e); }
  void on_train_epoch_end(ta::Trainer& t, const ta::TrainEpochEnd& e) override { fail(t, e); }
  void on_eval_epoch_start(ta::Trainer& t, const ta::EvalEpochStart& e) override { fail(t, e); }
  void on_eval_step_start(ta::Trainer& t, const ta::EvalStepStart& e) override { fail(t, e); }
  void on_eval_step_end(ta::Trainer& t, const ta::EvalStepEnd& e) override { fail(t, e); }
  void on_eval_epoch_end(ta::Trainer& t, const ta::EvalEpochEnd& e) override { fail(t, e); }
  void on_training_run_epoch_end(ta::Trainer& t, const ta::TrainingRunEpochEnd& e) override {
    fail(t, e);
  }
  void on_training_run_end(ta::Trainer& t, const ta::TrainingRunEnd& e) override { fail(t, e); }
  void on_evaluation_run_start(ta::Trainer& t, const ta::EvaluationRunStart& e) override {
    fail(t, e);
  }
  void on_evaluation_run_end(ta::Trainer& t, const ta::EvaluationRunEnd& e) override { fail(t, e); }
  void on_stop_training_error(ta::Trainer& t, const ta::StopTrainingError& e) override {
    fail(t, e);
  }

 private:
  static bool is_fault(ta::Trainer& trainer, const std::string& name) {
    return dynamic_cast<FaultyTrainer&>(trainer).is_fault(name);
  }
  template <class Event>
  static void fail(ta::Trainer& trainer, const Event&) {
    if (!is_fault(trainer, Event::kName)) return;
    print_time();
    throw std::runtime_error("a cable was pulled");
  }
};

void train(const Fault& fault) {
  const std::chrono::milliseconds timeout(fault.timeout_ms);
  const char* launched = std::getenv("OMPI_COMM_WORLD_RANK");
  if (fault.name == "before" && launched != nullptr && std::atoi(launched) == fault.rank) {
    print_time();
    for (;;) pause();
  }
  // A rank that hangs before the first update is waited for as long as one that hangs later.
  const int patience = fault.name == "begin" || fault.name == "before" ? 1 : 5;
  ta::Accelerator ranks({.device = "cpu", .timeout = timeout, .first_timeout = timeout * patience});
  torch::manual_seed(1);
  torch::nn::Sequential net(torch::nn::Linear(4, 3));
  torch::optim::SGD optimizer(net->parameters(), 0.01);
  const FaultyTrainer* reading = nullptr;
  FaultyTrainer trainer(net, optimizer, ranks, fault);
  reading = &trainer;
  trainer.callbacks().add(FaultyCallback());
  const ta::Batch held_out{{"data", torch::zeros({9, 4})}, {"target", torch::zeros({9, 3})}};
  trainer.train(ta::per_sample(Rows{&reading}),
                {.num_epochs = 2, .eval_dataset = held_out, .global_batch_size = 8});
  trainer.evaluate(held_out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 64;
  return ta::run([&] { train({argv[1], std::atoi(argv[2]), std::atoi(argv[3])}); });
}
