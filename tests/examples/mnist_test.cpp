// SPDX-License-Identifier: Apache-2.0
// The MNIST examples, run as programs: on real images where they are there, else on rendered ones.
#include <gmock/gmock.h>

#include <array>
#include <fstream>
#include <sstream>

#include "examples/run_example.h"
#include "support/rendered_digits.h"
#include "support/temp_dir.h"

namespace tests {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using torch_accelerated::testing::TempDir;

std::vector<std::string> last_two_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  if (lines.size() < 2) return lines;
  return {lines[lines.size() - 2], lines.back()};
}

double test_accuracy(const std::string& output) {
  return std::stod(last_two_lines(output).front().substr(std::string("test accuracy ").size()));
}

std::vector<std::string> lines_of(const fs::path& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// Of one line of a history.
double number_in(const std::string& line, const std::string& name) {
  const auto key = "\"" + name + "\":";
  const auto place = line.find(key);
  if (place == std::string::npos) throw std::runtime_error(name + " isn't in " + line);
  return std::stod(line.substr(place + key.size()));
}

void write_idx(const fs::path& path, std::uint8_t rank, const std::vector<std::uint32_t>& shape,
               const std::vector<std::uint8_t>& values) {
  std::ofstream file(path, std::ios::binary);
  const std::array<char, 4> magic{0, 0, 8, static_cast<char>(rank)};
  file.write(magic.data(), magic.size());
  for (const auto size : shape) {
    for (int shift = 24; shift >= 0; shift -= 8) file.put(static_cast<char>(size >> shift));
  }
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size()));
}

void write_pair(const fs::path& directory, const std::string& prefix, std::uint32_t count) {
  const auto digits = examples::render_digits(count, 5);
  write_idx(directory / (prefix + "-images-idx3-ubyte"), 3, {count, 28, 28}, digits.pixels);
  write_idx(directory / (prefix + "-labels-idx1-ubyte"), 1, {count}, digits.labels);
}

// Rendered digits as the test pair of MNIST: of 3,000, 1,000 are trained on.
void write_test_pair(const fs::path& directory) { write_pair(directory, "t10k", 3'000); }

TEST(MnistExample, WritesItsHistoryAndEndsWithAccuracyAndHash) {
  const TempDir folder;
  write_test_pair(folder.path());
  const auto finished = run("mnist", "--epochs 2 --data " + folder.path().string() + " --output " +
                                         (folder.path() / "out").string());
  ASSERT_EQ(finished.status, 0) << finished.output;
  EXPECT_THAT(last_two_lines(finished.output),
              testing::ElementsAre(testing::MatchesRegex("test accuracy 0\\.[0-9]{4}"),
                                   testing::MatchesRegex("weights sha256 [0-9a-f]{64}")));
  const auto lines = lines_of(folder.path() / "out" / "history.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  const std::string number = "[-+.0-9e]+";
  EXPECT_THAT(lines[1], testing::MatchesRegex(
                            "\\{\"epoch\":2,\"updates\":64,\"intermediate\":false,\"train_loss\":" +
                            number + ",\"eval_loss\":" + number + ",\"eval_accuracy\":" + number +
                            ",\"learning_rate\":0.001,\"rows_per_second\":" + number +
                            ",\"seconds\":" + number + ",\"eta_seconds\":" + number + "\\}"));
}

TEST(MnistExample, HoldsFiveThousandTwiceOutOfTheTrainingPairWhereAllFourFilesAre) {
  const TempDir folder;
  write_pair(folder.path(), "train", 11'000);
  write_test_pair(folder.path());
  const auto output = run("mnist", "--epochs 1 --data " + folder.path().string()).output;
  EXPECT_THAT(output, AllOf(HasSubstr("1000 images to train on, from MNIST's training images"),
                            HasSubstr("Evaluation of 5000 rows")));
}

TEST(MnistExample, GivesTheSameHashForTheSameSeedAndAnotherForAnother) {
  const TempDir folder;
  write_test_pair(folder.path());
  const auto arguments = "--epochs 1 --data " + folder.path().string() + " --seed ";
  const auto first = last_two_lines(run("mnist", arguments + "3").output);
  EXPECT_EQ(last_two_lines(run("mnist", arguments + "3").output), first);
  EXPECT_NE(last_two_lines(run("mnist", arguments + "4").output), first);
}

TEST(MnistExample, ByHandEndsWithTheTrainersHash) {
  const TempDir folder;
  write_test_pair(folder.path());
  const auto arguments = "--epochs 2 --data " + folder.path().string();
  EXPECT_EQ(last_two_lines(run("mnist_by_hand", arguments).output),
            last_two_lines(run("mnist", arguments).output));
}

// The seed's 8 epochs on as many digits as MNIST has.
TEST(MnistExample, LearnsRenderedDigitsAndLeavesSomethingToLearn) {
  const TempDir folder;
  const auto finished = run("mnist", "--output " + folder.path().string());
  ASSERT_EQ(finished.status, 0) << finished.output;
  EXPECT_THAT(finished.output, HasSubstr("60000 images to train on, from digits rendered"));
  EXPECT_GT(test_accuracy(finished.output), 0.9);
  EXPECT_LT(test_accuracy(finished.output), 1);
  const auto epochs = lines_of(folder.path() / "history.jsonl");
  ASSERT_EQ(epochs.size(), 8U);
  const double accuracy = number_in(epochs.back(), "eval_accuracy");
  EXPECT_GT(accuracy, 0.9);
  EXPECT_LT(accuracy, 1);
  EXPECT_GT(accuracy, number_in(epochs.front(), "eval_accuracy"));
}

TEST(MnistExample, LearnsRealDigits) {
  if (!fs::exists(MNIST_DIR)) {
    GTEST_SKIP() << "no MNIST files in " << MNIST_DIR << ", which is beside the project";
  }
  const auto finished = run("mnist", std::string("--data ") + MNIST_DIR);
  ASSERT_EQ(finished.status, 0) << finished.output;
  EXPECT_NEAR(test_accuracy(finished.output), 0.88, 0.02);
}

TEST(MnistExample, RefusesBadInputInOneLine) {
  const TempDir folder;
  const auto data = " --data " + folder.path().string();
  EXPECT_THAT(run("mnist", data).output, HasSubstr("has neither train-images-idx3-ubyte"));
  write_test_pair(folder.path());
  const auto refused = [&](const std::string& arguments, const char* part) {
    const auto finished = run("mnist", data + " " + arguments);
    EXPECT_NE(finished.status, 0);
    EXPECT_THAT(finished.output, HasSubstr(part));
  };
  refused("--epochs 0", "num_epochs must be >= 1, got 0");
  refused("--per-device-batch-size 0", "per_device_batch_size must be >= 1, got 0");
  refused("--per-device-batch-size 8 --global-batch-size 8", "excludes");
  refused("--epochs x", "--epochs");
  std::filesystem::resize_file(folder.path() / "t10k-images-idx3-ubyte", 16);
  refused("--epochs 1", "t10k-images-idx3-ubyte");
}

}  // namespace
}  // namespace tests
