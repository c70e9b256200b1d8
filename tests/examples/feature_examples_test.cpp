// SPDX-License-Identifier: Apache-2.0
// The examples that show one feature each, run as programs: each ends near the line that the
// paragraph at its top quotes.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "examples/run_example.h"
#include "support/temp_dir.h"

namespace tests {
namespace {

namespace fs = std::filesystem;

std::string last_line(const std::string& text) {
  std::istringstream stream(text);
  std::string last;
  for (std::string line; std::getline(stream, line);) last = line;
  return last;
}

const std::regex& number() {
  static const std::regex pattern("[0-9]+(\\.[0-9]+)?");
  return pattern;
}

std::vector<double> numbers_of(const std::string& line) {
  std::vector<double> numbers;
  for (std::sregex_iterator at(line.begin(), line.end(), number()), end; at != end; ++at) {
    numbers.push_back(std::stod(at->str()));
  }
  return numbers;
}

// What stands between the numbers.
std::string words_of(const std::string& line) { return std::regex_replace(line, number(), "#"); }

struct Promise {
  std::string line;
  double margin = 0;
};

// `Ends near "LINE", within MARGIN.` of the comment at the top of an example.
Promise read_promise(const std::string& example) {
  const auto path = fs::path(EXAMPLES_SOURCE_DIR) / (example + ".cpp");
  std::ifstream file(path);
  std::string comment;
  for (std::string line; std::getline(file, line) && line.starts_with("//");) {
    comment += line.substr(2);
  }
  std::smatch found;
  const std::regex promise("Ends near \"([^\"]+)\", within ([.0-9]+)\\.");
  if (!std::regex_search(comment, found, promise)) {
    throw std::runtime_error(path.string() + " doesn't say what it ends near");
  }
  return {found[1], std::stod(found[2])};
}

class FeatureExample : public testing::TestWithParam<const char*> {};

TEST_P(FeatureExample, EndsNearTheLineThatItQuotes) {
  const auto promise = read_promise(GetParam());
  const auto finished = run(GetParam(), "");
  ASSERT_EQ(finished.status, 0) << finished.output;
  const auto line = last_line(finished.output);
  ASSERT_EQ(words_of(line), words_of(promise.line));
  EXPECT_THAT(numbers_of(line),
              testing::Pointwise(testing::DoubleNear(promise.margin), numbers_of(promise.line)))
      << line;
}

INSTANTIATE_TEST_SUITE_P(All, FeatureExample,
                         testing::Values("added_metrics", "ema", "fine_tuning",
                                         "metrics_in_the_loop", "progressive_resizing",
                                         "typed_events"),
                         [](const auto& example) { return std::string(example.param); });

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(FeatureExamples, DrawThePicturesOfTheDocs) {
  const torch_accelerated::testing::TempDir folder;
  const auto docs = fs::path(EXAMPLES_SOURCE_DIR).parent_path() / "docs" / "pictures";
  const auto finished = run("schedules", folder.path().string());
  ASSERT_EQ(finished.status, 0) << finished.output;
  EXPECT_EQ(last_line(finished.output), "6 pictures in " + folder.path().string());
  EXPECT_EQ(names_in(folder.path()), names_in(docs));
  for (const auto& name : names_in(folder.path())) {
    const auto drawn = content_of(folder.path() / name);
    const auto shown = content_of(docs / name);
    if (name != "learning-rate-finder.svg") {
      EXPECT_TRUE(drawn == shown) << name;
      continue;
    }
    // What is trained adds up in another order on another processor: within a pixel.
    EXPECT_TRUE(words_of(drawn) == words_of(shown)) << name;
    EXPECT_THAT(numbers_of(drawn), testing::Pointwise(testing::DoubleNear(1), numbers_of(shown)));
  }
}

TEST(FeatureExamples, HaveTheirOwnCommandLine) {
  EXPECT_THAT(run("typed_events", "--epochs 1 --images 400 --global-batch-size 16").output,
              testing::AllOf(testing::HasSubstr("after 25 updates in epoch 1"),
                             testing::ContainsRegex("[0-9]+ of 100 digits wrong")));
  const auto refused = run("typed_events", "--images 3");
  EXPECT_EQ(refused.status, 64);
  EXPECT_THAT(refused.output, testing::HasSubstr("--images must be >= 4, got 3"));
}

}  // namespace
}  // namespace tests
