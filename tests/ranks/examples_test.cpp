// SPDX-License-Identifier: Apache-2.0
// The examples under mpirun, as they stand.
#include <gmock/gmock.h>

#include "ranks/job.h"

namespace tests {
namespace {

using testing::HasSubstr;

std::string line_of(const std::string& text, const std::string& beginning) {
  const auto begin = text.find(beginning);
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
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

TEST(SurrogateExample, LearnsOnTheRowsOfItsRanks) {
  const auto end = run_job(2, {program("surrogate")}, {}, 60);
  ASSERT_EQ(end.status, 0) << end.err;
  const auto line = line_of(end.out, "mean error of the angle ");
  ASSERT_NE(line, "");
  EXPECT_LT(std::stod(line.substr(std::string("mean error of the angle ").size())), 0.1);
}

}  // namespace
}  // namespace tests
