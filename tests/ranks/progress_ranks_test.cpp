// SPDX-License-Identifier: Apache-2.0
// One progress bar, though every rank has one.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "support/tiny.h"

namespace tests::progress_ranks_test {
namespace {

using testing::HasSubstr;

/// A terminal that this process has for its stderr.
class Terminal {
 public:
  Terminal() : terminal_(::posix_openpt(O_RDWR | O_NOCTTY)), saved_(::dup(STDERR_FILENO)) {
    if (terminal_ < 0 || ::grantpt(terminal_) != 0 || ::unlockpt(terminal_) != 0) return;
    const int line = ::open(::ptsname(terminal_), O_RDWR | O_NOCTTY);
    is_there_ = line >= 0 && ::dup2(line, STDERR_FILENO) >= 0;
    ::close(line);
  }
  ~Terminal() {
    give_back();
    ::close(terminal_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool is_there() const { return is_there_; }

  /// What has been written to it; stderr is what it was before.
  std::string text() {
    std::fflush(stderr);
    std::string written;
    std::array<char, 4096> bytes;
    for (pollfd from{terminal_, POLLIN, 0}; ::poll(&from, 1, 100) > 0;) {
      const auto length = ::read(terminal_, bytes.data(), bytes.size());
      if (length <= 0) break;
      written.append(bytes.data(), static_cast<std::size_t>(length));
    }
    give_back();
    return written;
  }

 private:
  void give_back() {
    if (saved_ < 0) return;
    ::dup2(saved_, STDERR_FILENO);
    ::close(saved_);
    saved_ = -1;
  }

  int terminal_;
  int saved_;
  bool is_there_ = false;
};

// Bars are drawn 100 ms apart at least, so these updates take their time.
TEST(ProgressOnRanks, TheBarIsTheMainProcesss) {
  ta::Accelerator ranks;
  Terminal terminal;
  ASSERT_TRUE(terminal.is_there());
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ta::CallbackList callbacks{ta::ProgressBar()};
  callbacks.add(AtStepEnd([](ta::Trainer&, const ta::TrainStepEnd&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
  }));
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, std::move(callbacks), &ranks);
  trainer.train(tiny_batch(32), {.num_epochs = 1, .global_batch_size = 8});
  const auto text = terminal.text();
  if (ranks.is_main_process()) {
    EXPECT_THAT(text, HasSubstr("train "));
    EXPECT_THAT(text, HasSubstr("/4"));
  } else {
    EXPECT_EQ(text, "");
  }
}

}  // namespace
}  // namespace tests::progress_ranks_test
