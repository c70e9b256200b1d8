// SPDX-License-Identifier: Apache-2.0
// What a user sees of a run: lines on stdout, a bar on a terminal.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <pty.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "support/tiny.h"

namespace tests::default_callbacks_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

template <class Body>
std::string stdout_of(Body&& body) {
  testing::internal::CaptureStdout();
  body();
  return testing::internal::GetCapturedStdout();
}

struct Fixture {
  torch::nn::Sequential net = tiny_net();
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer};
};

TEST(DefaultCallbacks, PrintTheRunOneLineAnEpochAndTheEnd) {
  Fixture f;
  f.trainer.add_metric("first", [](const ta::TensorDict& outputs, const ta::Batch&) {
    return outputs.only().select(1, 0).mean();
  });
  const auto text = stdout_of([&] {
    f.trainer.train(tiny_batch(8),
                    {.num_epochs = 2, .eval_dataset = tiny_batch(4), .per_device_batch_size = 4});
  });
  EXPECT_THAT(text, AllOf(HasSubstr("Training run:\n  epochs"), HasSubstr("total updates"),
                          HasSubstr("\nEpoch 1/2\ntrain_loss "), HasSubstr("\nEpoch 2/2\n"),
                          HasSubstr("  eval_loss "), HasSubstr("  eval_first "),
                          HasSubstr("Training run ended after 4 updates in epoch 2")));
}

TEST(DefaultCallbacks, PrintWhyARunStopped) {
  Fixture f;
  f.trainer.callbacks().add(AtStepEnd([](ta::Trainer& trainer, const ta::TrainStepEnd&) {
    trainer.request_stop("the budget is spent");
  }));
  EXPECT_THAT(stdout_of([&] { f.trainer.train(tiny_batch(8), {.num_epochs = 2}); }),
              HasSubstr("Stopped: the budget is spent\n"));
}

TEST(LogMetrics, PrintsAnEvaluationAlone) {
  Fixture f;
  EXPECT_THAT(stdout_of([&] { f.trainer.evaluate(tiny_batch(9)); }),
              HasSubstr("Evaluation of 9 rows: eval_loss "));
}

// Stderr is a terminal of the test's own while this lives.
class Terminal {
 public:
  Terminal() : saved_(::dup(STDERR_FILENO)) {
    int slave = -1;
    const winsize size{.ws_row = 24, .ws_col = 100, .ws_xpixel = 0, .ws_ypixel = 0};
    if (::openpty(&master_, &slave, nullptr, nullptr, &size) != 0) throw std::runtime_error("pty");
    ::dup2(slave, STDERR_FILENO);
    ::close(slave);
    ::fcntl(master_, F_SETFL, O_NONBLOCK);
  }
  ~Terminal() {
    ::dup2(saved_, STDERR_FILENO);
    ::close(saved_);
    ::close(master_);
  }

  std::string shown() const {
    std::string text;
    char buffer[4096];
    for (ssize_t n = 0; (n = ::read(master_, buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<std::size_t>(n));
    }
    return text;
  }

 private:
  int saved_;
  int master_ = -1;
};

AtStepEnd slow_step() {
  return AtStepEnd([](ta::Trainer&, const ta::TrainStepEnd&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
  });
}

TEST(ProgressBar, DrawsOnATerminalAndTakesItselfAway) {
  const Terminal terminal;
  Fixture f;
  ta::Trainer trainer(f.net, torch::nn::MSELoss(), f.optimizer,
                      ta::CallbackList(ta::ProgressBar(), slow_step()));
  trainer.train(tiny_batch(32), {.num_epochs = 1, .per_device_batch_size = 4});
  const auto shown = terminal.shown();
  EXPECT_THAT(shown, AllOf(HasSubstr("train "), HasSubstr("━"), HasSubstr("/8 "),
                           HasSubstr("  loss "), testing::EndsWith("\r\x1b[2K")));
}

TEST(ProgressBar, IsTakenAwayAfterAnException) {
  const Terminal terminal;
  Fixture f;
  {
    ta::Trainer trainer(
        f.net, torch::nn::MSELoss(), f.optimizer,
        ta::CallbackList(ta::ProgressBar(), AtStepEnd([](auto&, const auto& event) {
                           std::this_thread::sleep_for(std::chrono::milliseconds(120));
                           if (event.updates == 3) throw std::runtime_error("no");
                         })));
    EXPECT_THROW(trainer.train(tiny_batch(32), {.num_epochs = 1, .per_device_batch_size = 4}),
                 ta::UserCodeError);
  }
  EXPECT_THAT(terminal.shown(), testing::EndsWith("\r\x1b[2K"));
}

TEST(ProgressBar, IsSilentWhereStderrIsNoTerminal) {
  Fixture f;
  testing::internal::CaptureStderr();
  ta::Trainer trainer(f.net, torch::nn::MSELoss(), f.optimizer,
                      ta::CallbackList(ta::ProgressBar()));
  trainer.train(tiny_batch(8), {.num_epochs = 1});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace tests::default_callbacks_test
