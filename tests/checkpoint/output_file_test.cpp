// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/output_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "support/faulty_io.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::FaultyIo;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::names_in;
using testing::read_bytes;
using testing::TempDir;
using testing::write_bytes;

constexpr std::array kErrors{ENOSPC, EIO, EDQUOT, EROFS};

// How many operations `action` makes where none fails.
template <class Action>
std::size_t operations_of(Action action) {
  FaultyIo io;
  action(io);
  return io.operations();
}

// What the process that does `action` and dies before operation k ends with.
template <class Action>
int exit_of_killed(std::size_t k, Action action) {
  const pid_t child = ::fork();
  if (child == 0) {
    FaultyIo io;
    io.kill_at(k);
    action(io);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(OutputFile, WritesPiecesAtTheirOffsets) {
  const TempDir folder;
  const std::string path = folder.path() / "new";
  OutputFile file(system_io(), path);
  file.write("values", 6);
  file.write("header", 0);
  file.finish();
  EXPECT_EQ(read_bytes(path), "headervalues");
}

TEST(OutputFile, RefusesANameThatIsTaken) {
  const TempDir folder;
  const std::string path = folder.path() / "taken";
  write_bytes(path, "another's");
  try {
    write_new_file(system_io(), path, "mine");
    FAIL() << "written";
  } catch (const FileError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr(path), HasSubstr("File exists")));
  }
  EXPECT_EQ(read_bytes(path), "another's");
}

TEST(OutputFile, FollowsNoLinkThatSomeoneLaid) {
  const TempDir folder;
  std::filesystem::create_symlink(folder.path() / "elsewhere", folder.path() / "new");
  EXPECT_THROW(write_new_file(system_io(), folder.path() / "new", "mine"), FileError);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "elsewhere"));
}

TEST(OutputFile, IsRemovedWhereItWasNotFinished) {
  const TempDir folder;
  {
    OutputFile(system_io(), folder.path() / "new").write("half", 0);
  }
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

TEST(OutputFile, LeavesNothingWhereAnyOperationFails) {
  const auto write = [](FileIo& io, const TempDir& folder) {
    write_new_file(io, folder.path() / "new", "bytes");
  };
  const TempDir unused;
  const std::size_t operations = operations_of([&](FileIo& io) { write(io, unused); });
  ASSERT_EQ(operations, 4U);  // open, write, sync, close
  for (std::size_t k = 1; k <= operations; ++k) {
    for (const int error : kErrors) {
      const TempDir folder;
      FaultyIo io;
      io.fail_at(k, error);
      EXPECT_THROW(write(io, folder), FileError) << k << ": " << error;
      EXPECT_GE(io.operations(), k);
      EXPECT_THAT(names_in(folder.path()), IsEmpty()) << k << ": " << error;
    }
  }
}

TEST(OutputFile, WritesTheRestOfAShortOrInterruptedWrite) {
  const TempDir folder;
  const std::string path = folder.path() / "new";
  FaultyIo io;
  io.write_at_most(3);
  io.fail_at(3, EINTR);
  write_new_file(io, path, "0123456789");
  EXPECT_EQ(io.operations(), 8U);  // open, four writes and the interrupted one, sync, close
  EXPECT_EQ(read_bytes(path), "0123456789");
}

TEST(OutputFile, RefusesADiskThatTakesNothingRatherThanWaitForever) {
  const TempDir folder;
  FaultyIo io;
  io.write_at_most(0);
  EXPECT_THROW(write_new_file(io, folder.path() / "new", "bytes"), FileError);
  EXPECT_THAT(names_in(folder.path()), IsEmpty());
}

// What puts a new state into the place of an old one, whole.
void replace_state(FileIo& io, const TempDir& folder) {
  write_new_file(io, folder.path() / "state.new", "new");
  rename_file(io, folder.path() / "state.new", folder.path() / "state");
}

TEST(RenameFile, LeavesTheOldOrTheNewWhereAnyOperationFails) {
  const TempDir unused;
  const std::size_t operations = operations_of([&](FileIo& io) { replace_state(io, unused); });
  ASSERT_EQ(operations, 8U);  // open, write, sync, close, rename; of the folder: open, sync, close
  for (std::size_t k = 1; k < operations; ++k) {
    for (const int error : kErrors) {
      const TempDir folder;
      write_bytes(folder.path() / "state", "old");
      FaultyIo io;
      io.fail_at(k, error);
      EXPECT_THROW(replace_state(io, folder), FileError) << k << ": " << error;
      EXPECT_THAT(names_in(folder.path()), ElementsAre("state")) << k << ": " << error;
      EXPECT_EQ(read_bytes(folder.path() / "state"), k <= 5 ? "old" : "new") << k;
    }
  }
}

TEST(RenameFile, LeavesTheOldOrTheNewWhereTheProcessIsKilled) {
  const TempDir unused;
  const std::size_t operations = operations_of([&](FileIo& io) { replace_state(io, unused); });
  for (std::size_t k = 1; k <= operations; ++k) {
    const TempDir folder;
    write_bytes(folder.path() / "state", "old");
    EXPECT_EQ(exit_of_killed(k, [&](FileIo& io) { replace_state(io, folder); }), FaultyIo::kKilled);
    EXPECT_EQ(read_bytes(folder.path() / "state"), k <= 5 ? "old" : "new") << k;
    EXPECT_LE(names_in(folder.path()).size(), 2U) << k;
  }
}

TEST(SyncFolder, TakesAFileSystemThatHasNothingToDo) {
  const TempDir folder;
  FaultyIo io;
  io.fail_at(2, EINVAL);
  sync_folder(io, folder.path());
  EXPECT_EQ(io.operations(), 3U);
}

}  // namespace
}  // namespace torch_accelerated
