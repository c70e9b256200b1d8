// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <map>

#include "base/text.h"
#include "checkpoint/checkpoint_folder.h"
#include "support/checkpoint_folders.h"
#include "support/dead_disk.h"
#include "support/faulty_io.h"
#include "support/file_bytes.h"
#include "support/mutations.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using std::filesystem::path;
using ::testing::AnyOf;
using testing::DeadDisk;
using ::testing::ElementsAre;
using testing::FaultyIo;
using testing::names_in;
using testing::TempDir;

using Act = void (*)(const path& directory, FileIo& io);
using Updates = std::vector<std::int64_t>;

constexpr std::array kErrors = {ENOSPC, EIO, EDQUOT, EACCES, EXDEV, EROFS, EINTR};

void save_second(const path& directory, FileIo& io) {
  CheckpointFolder folder(directory, io);
  folder.lock();
  testing::save_checkpoint(folder, 2, "new", std::nullopt, io);
}

void remove_first(const path& directory, FileIo& io) {
  CheckpointFolder folder(directory, io);
  folder.lock();
  folder.remove(folder.scan().front());
}

/// A directory whose checkpoints were committed in the past, of which each trial gets a copy.
class Trials {
 public:
  explicit Trials(const Updates& updates) {
    DeadDisk io(DeadDisk::kNever);
    CheckpointFolder folder(temp_.path() / "past", io);
    folder.create();
    folder.lock();
    for (auto update : updates) {
      testing::save_checkpoint(folder, update, concat("old ", update), std::nullopt, io);
    }
  }

  path next() {
    auto directory = temp_.path() / concat("trial-", ++count_);
    std::filesystem::copy(temp_.path() / "past", directory,
                          std::filesystem::copy_options::recursive);
    return directory;
  }

 private:
  TempDir temp_;
  int count_ = 0;
};

// The updates of the committed checkpoints, all of which must be whole.
Updates committed(const path& directory) {
  Updates updates;
  const auto found = find_checkpoints(directory);
  EXPECT_TRUE(found.damaged.empty()) << found.damaged.front().second;
  for (const auto& checkpoint : found.committed) {
    EXPECT_NO_THROW(check_files(checkpoint, /*contents=*/true));
    updates.push_back(checkpoint.manifest.update);
  }
  return updates;
}

// As the next job begins: what isn't committed goes, and it can save.
void expect_next_job_goes_on(const path& directory) {
  const auto before = committed(directory);
  DeadDisk io(DeadDisk::kNever);
  CheckpointFolder folder(directory, io);
  folder.lock(std::chrono::milliseconds(0));
  folder.clean();
  EXPECT_EQ(committed(directory), before);
  std::vector<std::string> names = {"lock"};
  for (const auto& checkpoint : folder.scan()) {
    names.push_back(checkpoint.path.filename().string());
    EXPECT_THAT(names_in(checkpoint.path), ElementsAre("manifest.json", "model.safetensors",
                                                       "rank-00000.safetensors", "state.json"));
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names_in(directory), names);
  testing::save_checkpoint(folder, 9, "next", std::nullopt, io);
  EXPECT_EQ(committed(directory).back(), 9);
}

std::vector<std::string> operations_of(Act act, Trials& trials) {
  DeadDisk io(DeadDisk::kNever);
  act(trials.next(), io);
  return io.asked();
}

// A write that a signal interrupts is written again, and nobody hears of it.
bool is_written_again(const std::string& operation, int error) {
  return error == EINTR && operation.starts_with("write");
}

// Every operation in a long run; the errors take turns in a short one.
bool is_wanted(std::size_t k, std::size_t error, const std::string& operation) {
  return testing::is_long_run() || k % kErrors.size() == error ||
         is_written_again(operation, kErrors[error]);
}

// All but what closes, and what is done to the lock.
std::vector<std::string> essential(std::vector<std::string> operations) {
  std::erase_if(operations, [](const std::string& operation) {
    return operation.starts_with("close") || operation.ends_with(" lock");
  });
  return operations;
}

// So that a loss of power can't leave the name without what it promises.
TEST(CheckpointFaults, AllIsOnTheDiskBeforeTheManifestHasItsNameAndThenTheNameIs) {
  Trials trials({1});
  const auto operations = essential(operations_of(save_second, trials));
  std::vector<std::string> expected = {"make_folder update-000000002"};
  for (const std::string name : {"model.safetensors", "state.json", "rank-00000.safetensors"}) {
    for (const std::string call : {"open ", "write ", "sync "}) expected.push_back(call + name);
  }
  for (const char* operation :
       {"open update-000000002", "sync update-000000002", "open manifest.json.tmp",
        "write manifest.json.tmp", "sync manifest.json.tmp", "rename manifest.json",
        "open update-000000002", "sync update-000000002", "open trial-1", "sync trial-1"}) {
    expected.push_back(operation);
  }
  EXPECT_EQ(operations, expected);
}

TEST(CheckpointFaults, AManifestIsGoneFromTheDiskBeforeItsFilesGo) {
  Trials trials({1, 2});
  auto operations = essential(operations_of(remove_first, trials));
  ASSERT_EQ(operations.size(), 9U);
  std::sort(operations.begin() + 3, operations.begin() + 6);  // as the system lists them
  EXPECT_THAT(
      operations,
      ElementsAre("remove manifest.json", "open update-000000001", "sync update-000000001",
                  "remove model.safetensors", "remove rank-00000.safetensors", "remove state.json",
                  "remove_folder update-000000001", "open trial-1", "sync trial-1"));
}

// Fails each operation of `act` with each error, and lets the next job go on after it.
template <class Committed, class Thrown>
void fail_each_operation(Act act, Trials& trials, const Committed& expect_done,
                         const Thrown& expect_refused) {
  const auto operations = operations_of(act, trials);
  ASSERT_GT(operations.size(), 10U);
  for (std::size_t k = 1; k <= operations.size(); ++k) {
    for (std::size_t error = 0; error < kErrors.size(); ++error) {
      const auto& operation = operations[k - 1];
      if (!is_wanted(k, error, operation)) continue;
      SCOPED_TRACE(concat("operation ", k, " (", operation, ") fails with ", kErrors[error]));
      const auto directory = trials.next();
      FaultyIo io;
      io.fail_at(k, kErrors[error]);
      try {
        act(directory, io);
        // The close is a folder's or lock's: nothing is lost by that.
        EXPECT_TRUE(operation.starts_with("close") || is_written_again(operation, kErrors[error]));
        expect_done(directory);
      } catch (const FileError& refused) {
        EXPECT_FALSE(is_written_again(operation, kErrors[error])) << refused.what();
        expect_refused(directory);
      }
      expect_next_job_goes_on(directory);
    }
  }
}

TEST(CheckpointFaults, AnErrorAnywhereInASaveIsThrownAndLeavesTheEarlierOne) {
  Trials trials({1});
  ASSERT_GT(operations_of(save_second, trials).size(), 25U);
  fail_each_operation(
      save_second, trials,
      [](const path& directory) { EXPECT_THAT(committed(directory), ElementsAre(1, 2)); },
      [](const path& directory) { EXPECT_THAT(committed(directory), ElementsAre(1)); });
}

TEST(CheckpointFaults, ADiskThatDiesAnywhereInASaveLeavesTheEarlierOne) {
  Trials trials({1});
  const std::size_t count = operations_of(save_second, trials).size();
  for (std::size_t k = 1; k <= count; ++k) {
    SCOPED_TRACE(concat("from operation ", k, " on"));
    const auto directory = trials.next();
    DeadDisk io(k);
    try {
      save_second(directory, io);
      EXPECT_THAT(committed(directory), ElementsAre(1, 2));
    } catch (const FileError&) {
      // The manifest that couldn't be made sure of couldn't be taken back either.
      EXPECT_THAT(committed(directory), AnyOf(ElementsAre(1), ElementsAre(1, 2)));
    }
    expect_next_job_goes_on(directory);
  }
}

TEST(CheckpointFaults, AnErrorAnywhereInARemovalLeavesTheCheckpointWholeOrUncommitted) {
  Trials trials({1, 2});
  fail_each_operation(
      remove_first, trials,
      [](const path& directory) { EXPECT_THAT(committed(directory), ElementsAre(2)); },
      [](const path& directory) {
        EXPECT_THAT(committed(directory), AnyOf(ElementsAre(1, 2), ElementsAre(2)));
      });
}

// Runs `act` in a process of its own that is killed before operation `k`; whether it was told that
// the work is done.
bool is_done_before_kill(Act act, const path& directory, std::size_t k) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    FaultyIo io;
    io.kill_at(k);
    try {
      act(directory, io);
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(::write(ends[1], "!", 1) == 1 ? 0 : 1);
  }
  ::close(ends[1]);
  char told = 0;
  const bool is_done = ::read(ends[0], &told, 1) == 1;
  ::close(ends[0]);
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), is_done ? 0 : FaultyIo::kKilled);
  return is_done;
}

// Kills before each operation, until none is left, and counts how many trials ended with which
// checkpoints.
std::map<Updates, int> kill_everywhere(Act act, Trials& trials, const Updates& when_done) {
  std::map<Updates, int> outcomes;
  for (std::size_t k = 1; k < 1000; ++k) {
    SCOPED_TRACE(concat("killed before operation ", k));
    const auto directory = trials.next();
    const bool is_done = is_done_before_kill(act, directory, k);
    const auto updates = committed(directory);
    ++outcomes[updates];
    expect_next_job_goes_on(directory);
    if (!is_done) continue;
    EXPECT_EQ(updates, when_done);
    return outcomes;
  }
  ADD_FAILURE() << "it never ended";
  return outcomes;
}

TEST(CheckpointFaults, AKillAnywhereInASaveLeavesTheOldOrOldAndNew) {
  Trials trials({1});
  const auto outcomes = kill_everywhere(save_second, trials, {1, 2});
  ASSERT_EQ(outcomes.size(), 2U);
  EXPECT_GT(outcomes.at({1}), 20);
  EXPECT_GT(outcomes.at({1, 2}), 1);
}

TEST(CheckpointFaults, AKillAnywhereInARemovalLeavesTheCheckpointWholeOrUncommitted) {
  Trials trials({1, 2});
  const auto outcomes = kill_everywhere(remove_first, trials, {2});
  ASSERT_EQ(outcomes.size(), 2U);
  EXPECT_GT(outcomes.at({1, 2}), 1);
  EXPECT_GT(outcomes.at({2}), 5);
}

// The next job's cleaning may be killed as well.
TEST(CheckpointFaults, AKillAnywhereInCleaningLeavesTheRestToTheNext) {
  Trials trials({1});
  const Act save_half_and_clean = [](const path& directory, FileIo& io) {
    {
      CheckpointFolder before(directory);
      before.lock();
      const auto begun = before.begin(2);
      testing::write_bytes(begun / "state.json", "half");
      testing::write_bytes(begun / "manifest.json.tmp", "half");
      before.put_token();
    }
    CheckpointFolder folder(directory, io);
    folder.lock();
    folder.clean();
  };
  EXPECT_EQ(kill_everywhere(save_half_and_clean, trials, {1}).size(), 1U);
}

}  // namespace
}  // namespace torch_accelerated
