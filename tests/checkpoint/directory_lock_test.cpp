// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/directory_lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>

#include "base/text.h"
#include "support/faulty_io.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using testing::TempDir;

std::string refusal(const std::filesystem::path& directory, milliseconds patience) {
  try {
    const DirectoryLock lock(system_io(), directory, patience);
  } catch (const StateError& error) {
    return error.what();
  }
  return "locked";
}

/// Another process that has the lock.
class Holder {
 public:
  explicit Holder(const std::filesystem::path& directory) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    process_ = ::fork();
    if (process_ == 0) {
      const DirectoryLock lock(system_io(), directory, milliseconds(0));
      const bool is_told = ::write(ends[1], "!", 1) == 1;
      while (is_told) ::pause();
      ::_exit(1);
    }
    ::close(ends[1]);
    char told = 0;
    EXPECT_EQ(::read(ends[0], &told, 1), 1);
    ::close(ends[0]);
  }
  ~Holder() { kill(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  pid_t process() const { return process_; }

  void kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = -1;
  }

 private:
  pid_t process_ = -1;
};

TEST(DirectoryLock, RefusesASecondJobAfterItsPatienceAndNamesTheFirst) {
  const TempDir temp;
  Holder holder(temp.path());
  const auto begin = steady_clock::now();
  const std::string message = refusal(temp.path(), milliseconds(150));
  const auto waited = steady_clock::now() - begin;
  EXPECT_GE(waited, milliseconds(150));
  EXPECT_LT(waited, milliseconds(3000));
  EXPECT_THAT(message, HasSubstr(concat(", pid ", holder.process(), ", since ")));
  EXPECT_THAT(message,
              MatchesRegex("checkpoint directory '.*': another job \\(host .*, pid [0-9]+, since "
                           "20.*-.*-.* .*:.*:.* UTC\\) writes checkpoints there; wait for it or "
                           "give another directory"));
}

TEST(DirectoryLock, IsTakenOverFromAJobThatIsKilledMeanwhile) {
  const TempDir temp;
  Holder holder(temp.path());
  std::thread killer([&] {
    std::this_thread::sleep_for(milliseconds(100));
    holder.kill();
  });
  const auto begin = steady_clock::now();
  EXPECT_EQ(refusal(temp.path(), milliseconds(20'000)), "locked");
  EXPECT_GE(steady_clock::now() - begin, milliseconds(90));
  killer.join();
}

TEST(DirectoryLock, IsFreeAgainAtItsEnd) {
  const TempDir temp;
  auto lock = std::make_unique<DirectoryLock>(system_io(), temp.path(), milliseconds(0));
  EXPECT_THAT(refusal(temp.path(), milliseconds(0)), HasSubstr(concat("pid ", ::getpid())));
  lock.reset();
  EXPECT_EQ(refusal(temp.path(), milliseconds(0)), "locked");
}

TEST(DirectoryLock, IsNotPassedOnToProgramsAndNotTakenAwayByForks) {
  const TempDir temp;
  std::optional<DirectoryLock> lock(std::in_place, system_io(), temp.path(), milliseconds(0));
  const pid_t child = ::fork();
  if (child == 0) {
    lock.reset();  // as at the end of a program that a fork runs into
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_NE(refusal(temp.path(), milliseconds(0)), "locked");
  int num_open = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(entry.path(), ignored) != temp.path() / "lock") continue;
    ++num_open;
    const int flags = ::fcntl(std::stoi(entry.path().filename().string()), F_GETFD);
    EXPECT_TRUE(flags & FD_CLOEXEC);
  }
  EXPECT_EQ(num_open, 1);
}

TEST(DirectoryLock, LeavesNothingOfALongerTextOfItsPredecessor) {
  const TempDir temp;
  testing::write_bytes(temp.path() / "lock", std::string(500, 'x'));
  const DirectoryLock lock(system_io(), temp.path(), milliseconds(0));
  const std::string text = testing::read_bytes(temp.path() / "lock");
  EXPECT_THAT(text, MatchesRegex("host .*, pid [0-9]+, since .*, boot [-0-9a-f]+ *\n"));
}

TEST(DirectoryLock, ShowsAForeignTextWithoutItsControlCharacters) {
  const TempDir temp;
  const DirectoryLock lock(system_io(), temp.path(), milliseconds(0));
  testing::write_bytes(temp.path() / "lock", "a\x1B[31m\nb");
  EXPECT_THAT(refusal(temp.path(), milliseconds(0)), HasSubstr("another job (a?[31m?b) writes"));
  testing::write_bytes(temp.path() / "lock", "");
  EXPECT_THAT(refusal(temp.path(), milliseconds(0)), HasSubstr("another job writes"));
}

TEST(DirectoryLock, IsLetGoWhereItsTextCantBeWritten) {
  const TempDir temp;
  for (std::size_t k : {1, 2}) {
    testing::FaultyIo io;
    io.fail_at(k, ENOSPC);
    EXPECT_THROW(DirectoryLock(io, temp.path(), milliseconds(0)), FileError);
    EXPECT_EQ(refusal(temp.path(), milliseconds(0)), "locked");
  }
}

}  // namespace
}  // namespace torch_accelerated
