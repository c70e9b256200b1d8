// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "support/checkpoint_folders.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using std::filesystem::path;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::names_in;
using testing::save_checkpoint;
using testing::TempDir;
using testing::write_bytes;

template <class Exception, class Call>
std::string message(Call call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(CheckpointFolder, FindsWhatItCommitted) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  const auto checkpoint = save_checkpoint(folder, 123, "weights", 0.5);
  EXPECT_EQ(checkpoint.path, folder.path() / "update-000000123");
  EXPECT_THAT(names_in(checkpoint.path), ElementsAre("manifest.json", "model.safetensors",
                                                     "rank-00000.safetensors", "state.json"));
  const auto found = folder.scan();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].path, checkpoint.path);
  EXPECT_EQ(found[0].manifest, checkpoint.manifest);
  EXPECT_EQ(found[0].manifest.sequence, 1);
  EXPECT_EQ(found[0].manifest.metric, 0.5);
  EXPECT_EQ(read_manifest(checkpoint.path), checkpoint.manifest);
  check_files(found[0], /*contents=*/true);
}

TEST(CheckpointFolder, IsMadeWithThoseAboveItAndLeavesNothingInIt) {
  const TempDir temp;
  const path wanted = temp.path() / "a" / "b" / "c";
  CheckpointFolder folder(wanted / "");
  EXPECT_THAT(folder.scan(), IsEmpty());
  EXPECT_FALSE(std::filesystem::exists(temp.path() / "a"));
  folder.create();
  folder.create();
  EXPECT_THAT(names_in(wanted), IsEmpty());
}

TEST(CheckpointFolder, StaysWhereItWasWhenTheProgramGoesElsewhere) {
  const TempDir temp;
  const path before = std::filesystem::current_path();
  std::filesystem::current_path(temp.path());
  CheckpointFolder folder("here");
  std::filesystem::current_path(before);
  folder.create();
  EXPECT_TRUE(std::filesystem::is_directory(temp.path() / "here"));
}

TEST(CheckpointFolder, IsRefusedWhereItCantBeMadeOrWrittenTo) {
  const TempDir temp;
  write_bytes(temp.path() / "file", "");
  for (const path& wanted : {temp.path() / "file", temp.path() / "file" / "below"}) {
    EXPECT_THAT(message<FileError>([&] { CheckpointFolder(wanted).create(); }),
                HasSubstr((temp.path() / "file").string()));
    EXPECT_THROW(CheckpointFolder(wanted).lock(), FileError);
    EXPECT_THROW(CheckpointFolder(wanted).scan(), FileError);
  }
  EXPECT_THROW(CheckpointFolder(""), ArgumentError);
  if (::geteuid() == 0) return;  // root may write everywhere; the file above stands for it
  ::chmod(temp.path().c_str(), 0555);
  EXPECT_THROW(CheckpointFolder(temp.path()).create(), FileError);
  EXPECT_THROW(CheckpointFolder(temp.path() / "new").create(), FileError);
  ::chmod(temp.path().c_str(), 0755);
}

TEST(CheckpointFolder, MayBeWritableForAllAndReachedThroughALink) {
  const TempDir temp;
  const path real = temp.path() / "real";
  std::filesystem::create_directory(real);
  ::chmod(real.c_str(), 0777);
  std::filesystem::create_directory_symlink(real, temp.path() / "link");
  CheckpointFolder folder(temp.path() / "link");
  folder.create();
  folder.lock();
  save_checkpoint(folder, 1, "weights");
  EXPECT_EQ(CheckpointFolder(real).scan().size(), 1U);
  EXPECT_EQ(find_checkpoints(temp.path() / "link").committed.size(), 1U);
  // A path from before the link was resolved is as good.
  folder.remove({temp.path() / "link" / "update-000000001", {}});
  EXPECT_THAT(folder.scan(), IsEmpty());
}

TEST(CheckpointFolder, ShowsByATokenThatRanksHaveTheSameDirectory) {
  const TempDir temp, other;
  CheckpointFolder one(temp.path()), two(temp.path());
  const std::string token = one.put_token();
  EXPECT_TRUE(two.has_token(token));
  EXPECT_FALSE(CheckpointFolder(other.path()).has_token(token));
  two.remove_token(token);
  two.remove_token(token);  // it is enough that it is gone
  EXPECT_FALSE(one.has_token(token));
  write_bytes(temp.path() / "notes", "");
  EXPECT_FALSE(one.has_token("notes"));
  EXPECT_THROW(one.remove_token("notes"), ArgumentError);
  EXPECT_THAT(names_in(temp.path()), ElementsAre("notes"));
}

TEST(CheckpointFolder, NumbersCheckpointsOfOneUpdate) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  const auto first = save_checkpoint(folder, 7, "a");
  const auto second = save_checkpoint(folder, 7, "b");
  EXPECT_EQ(second.path.filename(), "update-000000007-2");
  folder.remove(first);
  EXPECT_EQ(folder.begin(7).filename(), "update-000000007-3");  // not the first one's name again
  EXPECT_EQ(folder.begin(1'234'567'890'123).filename(), "update-1234567890123");
  EXPECT_THAT(folder.scan(), ElementsAre(::testing::Field(&FoundCheckpoint::path, second.path)));
}

TEST(CheckpointFolder, IsOrderedBySequenceAndNotByUpdate) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  std::vector<std::int64_t> updates;
  for (std::int64_t update : {30, 10, 1'000'000'000, 20, 10}) {
    save_checkpoint(folder, update, "x");
  }
  for (const auto& found : folder.scan()) {
    updates.push_back(found.manifest.update);
    EXPECT_EQ(found.manifest.sequence, static_cast<std::int64_t>(updates.size()));
  }
  EXPECT_THAT(updates, ElementsAre(30, 10, 1'000'000'000, 20, 10));
}

TEST(CheckpointFolder, WantsTheLockForWhatChangesCheckpoints) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  EXPECT_THAT(message<StateError>([&] { folder.begin(1); }), HasSubstr("begin wants the lock"));
  EXPECT_THROW(folder.clean(), StateError);
  EXPECT_THROW(folder.commit(temp.path() / "update-000000001", {}), StateError);
  EXPECT_THROW(folder.remove({temp.path() / "update-000000001", {}}), StateError);
  folder.lock();
  folder.lock();
  EXPECT_NO_THROW(folder.begin(1));
}

TEST(CheckpointFolder, CommitsNothingThatIsNotThereOrNotItsOwn) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  EXPECT_THROW(folder.begin(-1), ArgumentError);
  const auto checkpoint = folder.begin(1);
  const auto commit = [&](ManifestFile file) {
    folder.commit(checkpoint, {.library = "1", .files = {std::move(file)}});
  };
  write_bytes(checkpoint / "state.json", "12345");
  EXPECT_THAT(message<CheckpointError>([&] { commit({"model.safetensors", 1, 2}); }),
              HasSubstr("file 'model.safetensors' is missing"));
  EXPECT_THAT(message<CheckpointError>([&] { commit({"state.json", 6, 2}); }),
              HasSubstr("file 'state.json' has 5 bytes, its manifest says 6"));
  EXPECT_THAT(message<ArgumentError>([&] { commit({"notes.txt", 6, 2}); }),
              HasSubstr("'notes.txt' is none that is_checkpoint_file_name knows"));
  EXPECT_THROW(folder.commit(checkpoint.parent_path(), {.library = "1"}), ArgumentError);
  EXPECT_THROW(folder.commit("/elsewhere/update-000000001", {.library = "1"}), ArgumentError);
  EXPECT_THROW(folder.commit(temp.path() / "update-000000002", {.library = "1"}), ArgumentError);
  EXPECT_THROW(folder.commit(checkpoint, {.library = ""}), ArgumentError);
  EXPECT_THAT(names_in(checkpoint), ElementsAre("state.json"));
  commit(summed_file(checkpoint / "state.json"));
  EXPECT_THROW(commit(summed_file(checkpoint / "state.json")), StateError);
}

TEST(CheckpointFolder, TellsADamagedManifestFromNone) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  const auto good = save_checkpoint(folder, 1, "a");
  const auto bad = save_checkpoint(folder, 2, "b");
  const auto begun = folder.begin(3);
  auto text = testing::read_bytes(bad.path / "manifest.json");
  text[20] = static_cast<char>(text[20] ^ 1);
  write_bytes(bad.path / "manifest.json", text);
  EXPECT_THAT(folder.scan(), ElementsAre(::testing::Field(&FoundCheckpoint::path, good.path)));
  const auto damaged = find_checkpoints(temp.path()).damaged;
  ASSERT_EQ(damaged.size(), 1U);
  EXPECT_EQ(damaged[0].first, bad.path);
  EXPECT_THAT(damaged[0].second, HasSubstr("update-000000002/manifest.json': its sha256"));
  EXPECT_THAT(message<CheckpointError>([&] { read_manifest(begun); }),
              HasSubstr("it has no manifest.json"));
  folder.clean();
  EXPECT_THAT(names_in(temp.path()), ElementsAre("lock", "update-000000001", "update-000000002"));
}

TEST(CheckpointFolder, PassesOverForeignNamesAndLinks) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  const auto checkpoint = save_checkpoint(folder, 5, "a");
  for (const char* name : {"update-5", "update-000000005-1", "update-000000005-02", "best",
                           "update-0000000005", "update-00000000x", "update-000000005-",
                           "update--00000005", "update-000000005-2-3", ".update-000000005"}) {
    std::filesystem::copy(checkpoint.path, temp.path() / name);
  }
  write_bytes(temp.path() / "update-000000006", "a file");
  std::filesystem::create_directory_symlink(checkpoint.path, temp.path() / "update-000000007");
  std::filesystem::create_directory_symlink(temp.path() / "best", temp.path() / "update-000000008");
  const auto before = names_in(temp.path());
  EXPECT_THAT(folder.scan(),
              ElementsAre(::testing::Field(&FoundCheckpoint::path, checkpoint.path)));
  EXPECT_THAT(find_checkpoints(temp.path()).damaged, IsEmpty());
  folder.clean();
  EXPECT_EQ(names_in(temp.path()), before);
  EXPECT_EQ(folder.begin(6).filename(), "update-000000006-2");
  EXPECT_EQ(folder.begin(7).filename(), "update-000000007-2");
  EXPECT_THROW(folder.remove({temp.path() / "update-000000007", checkpoint.manifest}),
               ArgumentError);
  check_files(checkpoint, /*contents=*/true);
}

TEST(CheckpointFolder, FollowsNoLinkAtANameThatItUses) {
  const TempDir temp, outside;
  const path victim = outside.path() / "victim";
  write_bytes(victim, "precious");
  CheckpointFolder folder(temp.path());
  std::filesystem::create_symlink(victim, temp.path() / "lock");
  EXPECT_THROW(folder.lock(), FileError);
  std::filesystem::remove(temp.path() / "lock");
  folder.lock();
  const auto checkpoint = folder.begin(1);
  write_bytes(checkpoint / "state.json", "1");
  const Manifest manifest{.library = "1", .files = {summed_file(checkpoint / "state.json")}};
  for (const char* name : {"manifest.json.tmp", "manifest.json"}) {
    std::filesystem::create_symlink(victim, checkpoint / name);
    EXPECT_THROW(folder.commit(checkpoint, manifest), Error);
    EXPECT_THAT(folder.scan(), IsEmpty());
    folder.clean();  // leaves it, with a warning: a link is not a file of ours
    std::filesystem::remove(checkpoint / name);
  }
  std::filesystem::rename(checkpoint / "state.json", outside.path() / "state.json");
  std::filesystem::create_symlink(outside.path() / "state.json", checkpoint / "state.json");
  EXPECT_THROW(folder.commit(checkpoint, manifest), CheckpointError);
  EXPECT_THROW(summed_file(checkpoint / "state.json"), FileError);
  EXPECT_EQ(testing::read_bytes(victim), "precious");
}

TEST(CheckpointFolder, CleansUpAfterEarlierJobs) {
  const TempDir temp;
  {
    CheckpointFolder before(temp.path());
    before.lock();
    const auto kept = save_checkpoint(before, 1, "a");
    write_bytes(kept.path / "manifest.json.tmp", "left over");
    const auto begun = before.begin(2);
    for (const char* name :
         {"model.safetensors", "optimizer.safetensors", "state.safetensors", "state.json",
          "rank-00000.safetensors", "rank-123456.safetensors", "manifest.json.tmp"}) {
      write_bytes(begun / name, "half");
    }
    before.begin(3);
    before.put_token();
  }
  CheckpointFolder folder(temp.path());
  folder.lock();
  const std::string own_token = folder.put_token();
  folder.clean();
  EXPECT_THAT(names_in(temp.path()), ElementsAre(own_token, "lock", "update-000000001"));
  EXPECT_THAT(names_in(folder.scan()[0].path), ElementsAre("manifest.json", "model.safetensors",
                                                           "rank-00000.safetensors", "state.json"));
}

TEST(CheckpointFolder, DeletesNothingBesideAForeignFileAndSaysSo) {
  for (const char* foreign : {"notes.txt", "rank-1.safetensors", "rank-000001.safetensors",
                              "rank-00000.safetensors.tmp", "Model.safetensors"}) {
    const TempDir temp;
    CheckpointFolder folder(temp.path());
    folder.lock();
    const auto begun = folder.begin(2);
    write_bytes(begun / "state.json", "half");
    write_bytes(begun / foreign, "mine");
    ::testing::internal::CaptureStderr();
    folder.clean();
    EXPECT_THAT(::testing::internal::GetCapturedStderr(),
                AllOf(HasSubstr("warning"), HasSubstr(begun.string()), HasSubstr(foreign)));
    EXPECT_EQ(names_in(begun).size(), 2U);
  }
}

TEST(CheckpointFolder, RemovesACheckpointButNotWhatOthersPutIntoIt) {
  const TempDir temp;
  CheckpointFolder folder(temp.path());
  folder.lock();
  folder.remove(save_checkpoint(folder, 1, "a"));
  EXPECT_THAT(names_in(temp.path()), ElementsAre("lock"));
  const auto checkpoint = save_checkpoint(folder, 2, "a");
  std::filesystem::create_directory(checkpoint.path / "plots");
  ::testing::internal::CaptureStderr();
  folder.remove(checkpoint);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("'plots'"));
  EXPECT_THAT(names_in(checkpoint.path), ElementsAre("plots"));
  EXPECT_THAT(folder.scan(), IsEmpty());
}

}  // namespace
}  // namespace torch_accelerated
