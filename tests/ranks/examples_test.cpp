// SPDX-License-Identifier: Apache-2.0
// The examples under mpirun, as they stand.
#include <gmock/gmock.h>

#include <sstream>

#include "ranks/job.h"

namespace tests {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

std::string line_of(const std::string& text, const std::string& beginning) {
  const auto begin = text.find(beginning);
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

std::vector<std::string> lines_of(const std::string& text, const std::string& beginning) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with(beginning)) lines.push_back(line);
  }
  return lines;
}

// The numbers that stand in the last line that begins so.
std::vector<double> last_numbers(const std::string& text, const std::string& beginning) {
  const auto lines = lines_of(text, beginning);
  std::vector<double> numbers;
  std::istringstream words(lines.empty() ? "" : lines.back());
  for (std::string word; words >> word;) {
    if (word.front() >= '0' && word.front() <= '9') numbers.push_back(std::stod(word));
  }
  return numbers;
}

std::string program(const std::string& name) { return std::string(EXAMPLES_DIR) + "/" + name; }

TEST(MnistExample, HasOneHashOnOneTwoAndFourRanksInDeterministicMode) {
  std::vector<std::string> hashes;
  for (const int ranks : {1, 2, 4}) {
    const auto end = run_job(
        ranks, {program("mnist"), "--epochs", "1", "--deterministic", "4", "--seed", "3"}, {}, 60);
    ASSERT_EQ(end.status, 0) << end.err;
    EXPECT_THAT(line_of(end.out, "  world size"), HasSubstr(std::to_string(ranks)));
    hashes.push_back(line_of(end.out, "weights sha256"));
  }
  EXPECT_EQ(hashes[0].size(), std::string("weights sha256 ").size() + 64);
  EXPECT_EQ(hashes[1], hashes[0]);
  EXPECT_EQ(hashes[2], hashes[0]);
}

TEST(MnistExample, ByHandHasTheTrainersHashOnTwoRanks) {
  std::vector<std::string> hashes;
  for (const char* name : {"mnist", "mnist_by_hand"}) {
    const auto end =
        run_job(2, {program(name), "--epochs", "1", "--global-batch-size", "64"}, {}, 60);
    ASSERT_EQ(end.status, 0) << end.err;
    hashes.push_back(line_of(end.out, "weights sha256"));
  }
  EXPECT_NE(hashes[0], "");
  EXPECT_EQ(hashes[1], hashes[0]);
}

constexpr double kSecondsForASmallRun = 60;

JobEnd small_run(int ranks, const char* name) {
  return run_job(ranks,
                 {program(name), "--epochs", "2", "--images", "800", "--global-batch-size", "32"},
                 {"OMP_NUM_THREADS=1"}, kSecondsForASmallRun);
}

// One log and one table, which says how the ranks are tied together. About two seconds each, as for
// the other examples: most of that is the start of the programs.
TEST(EmaExample, TellsEverythingOnceOnTwoRanks) {
  const auto end = small_run(2, "ema");
  ASSERT_EQ(end.status, 0) << end.err;
  for (const char* beginning :
       {"Training run:", "  epochs ", "  world size ", "  gradient reduction ", "  scheduler ",
        "Epoch 1/2", "Epoch 2/2", "Training run ended after 50 updates", "Evaluation of 200 rows",
        "accuracy "}) {
    EXPECT_EQ(lines_of(end.out, beginning).size(), 1U) << beginning << '\n' << end.out;
  }
  EXPECT_EQ(lines_of(end.out, "train_loss ").size(), 2U) << end.out;
  EXPECT_THAT(line_of(end.out, "  world size "), testing::EndsWith(" 2"));
  EXPECT_THAT(line_of(end.out, "  gradient reduction "),
              AllOf(HasSubstr("MPI, shared window"), HasSubstr("buckets of 25600 KiB"),
                    AnyOf(HasSubstr(" during backward"), HasSubstr(" when backward has ended"))));
}

// Rounding may turn a digit whose two best names are about as good.
TEST(EmaExample, EndsOnTwoRanksWhereItDoesOnOne) {
  const auto one = small_run(1, "ema");
  const auto two = small_run(2, "ema");
  ASSERT_EQ(one.status, 0) << one.err;
  ASSERT_EQ(two.status, 0) << two.err;
  const auto accuracies = last_numbers(one.out, "accuracy ");
  ASSERT_EQ(accuracies.size(), 2U) << one.out;
  EXPECT_THAT(last_numbers(two.out, "accuracy "),
              testing::Pointwise(testing::DoubleNear(0.0101), accuracies));
}

TEST(TypedEventsExample, EndsOnTwoRanksWhereItDoesOnOne) {
  const auto one = small_run(1, "typed_events");
  const auto two = small_run(2, "typed_events");
  ASSERT_EQ(one.status, 0) << one.err;
  ASSERT_EQ(two.status, 0) << two.err;
  // What each epoch's callback has counted over both ranks, and at the end "N of 200 digits wrong".
  for (const char* beginning : {"epoch 1: ", "epoch 2: "}) {
    EXPECT_EQ(lines_of(two.out, beginning).size(), 1U) << two.out;
  }
  const auto counted = [](const JobEnd& end) {
    const auto digits = end.out.rfind(" of 200 digits wrong");
    EXPECT_NE(digits, std::string::npos) << end.out;
    if (digits == std::string::npos) return -1.0;
    return std::stod(end.out.substr(end.out.rfind('\n', digits) + 1));
  };
  EXPECT_NEAR(counted(two), counted(one), 2);
  EXPECT_LT(counted(two), 150);  // of 200: it has learnt something
}

TEST(SurrogateExample, LearnsOnTheRowsOfItsRanks) {
  const auto end = run_job(2, {program("surrogate")}, {}, 60);
  ASSERT_EQ(end.status, 0) << end.err;
  const auto line = line_of(end.out, "mean error of the angle ");
  ASSERT_NE(line, "");
  EXPECT_LT(std::stod(line.substr(std::string("mean error of the angle ").size())), 0.1);
}

}  // namespace
}  // namespace tests
