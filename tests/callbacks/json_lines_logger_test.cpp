// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/json_lines_logger.h"

#include <gmock/gmock.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "callbacks/lines_at_step_start.h"
#include "callbacks/row_text.h"
#include "support/temp_dir.h"
#include "support/tiny.h"
#include "torch_accelerated/callbacks/step_based_evaluation.h"

namespace tests::json_lines_logger_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::string content_of(const std::filesystem::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

struct Fixture {
  explicit Fixture(const std::filesystem::path& path) {
    trainer.callbacks().add(ta::JsonLinesLogger(path));
    trainer.callbacks().add(ta::StepBasedEvaluation({.every_updates = 3}));
  }
  void run() {
    trainer.train(tiny_batch(8),
                  {.num_epochs = 2, .eval_dataset = tiny_batch(4), .per_device_batch_size = 4});
  }
  torch::nn::Sequential net = tiny_net();
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

TEST(JsonLine, IsOneObjectWhoseNumbersReadBack) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(ta::json_line({3, 12, {{"train_loss", 0.1}, {"a\"b\\c\n", -2.5e-300}}, true}),
            "{\"epoch\":3,\"updates\":12,\"intermediate\":true,\"train_loss\":0.1,"
            "\"a\\\"b\\\\c\\u000a\":-2.5e-300}\n");
  EXPECT_EQ(ta::json_line({1, 0, {{"a", kInfinity}, {"b", std::nan("")}, {"c", 5}}}),
            "{\"epoch\":1,\"updates\":0,\"intermediate\":false,\"a\":null,\"b\":null,\"c\":5}\n");
  ta::RandomStream random(3);
  for (int i = 0; i < 1000; ++i) {
    const double value = std::ldexp(random.uniform() - 0.5, static_cast<int>(i) - 500);
    const auto line = ta::json_line({0, 0, {{"x", value}}});
    EXPECT_EQ(std::strtod(line.substr(line.find("\"x\":") + 4).c_str(), nullptr), value);
  }
}

TEST(JsonLinesLogger, AppendsEachRowOfTheHistoryOnceOverRuns) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.jsonl";
  std::string expected;
  Fixture f(path);
  for (int run = 0; run < 2; ++run) {
    f.run();
    for (const auto& row : f.trainer.history().rows()) expected += ta::json_line(row);
  }
  EXPECT_EQ(content_of(path), expected);
  EXPECT_THAT(expected, HasSubstr("{\"epoch\":2,\"updates\":3,\"intermediate\":true,"));

  // What a broken process has left is cut off; what another program has written isn't touched.
  std::ofstream(path, std::ios::app) << "{\"epoch\":9,";
  f.run();
  for (const auto& row : f.trainer.history().rows()) expected += ta::json_line(row);
  EXPECT_EQ(content_of(path), expected);
}

TEST(JsonLinesLogger, CutsNothingForTheStateOfALoggerThatHasNoFileYet) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.jsonl";
  Fixture(path).run();
  const auto before = content_of(path);
  Fixture f(path);
  f.trainer.callbacks().find<ta::JsonLinesLogger>()->load_state(ta::JsonLinesLogger(path).state());
  f.run();
  EXPECT_THAT(content_of(path), StartsWith(before));
  EXPECT_GT(content_of(path).size(), before.size());
}

TEST(JsonLinesLogger, HasAnIntermediateRowBeforeTheNextMicroBatch) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.jsonl";
  Fixture f(path);  // evaluates after update 3, when the logger has had the update's event
  f.trainer.callbacks().add(LinesAtStepStart(path));
  f.run();
  // The first epoch's row is there before the third update, the evaluation's before the fourth.
  EXPECT_THAT(f.trainer.callbacks().find<LinesAtStepStart>()->lines, ElementsAre(0, 0, 1, 2));
}

TEST(JsonLinesLogger, RefusesWhatItCannotAppendTo) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.jsonl";
  std::ofstream(path) << "[1, 2]";
  Fixture f(path);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.run(); }),
              AllOf(HasSubstr("JsonLinesLogger: "), HasSubstr("give another path, or remove it")));
  EXPECT_EQ(content_of(path), "[1, 2]");
  Fixture nowhere(dir.path() / "none" / "log.jsonl");
  EXPECT_THAT(message_of<ta::Error>([&] { nowhere.run(); }),
              HasSubstr("No such file or directory"));
  EXPECT_THROW(ta::JsonLinesLogger(""), ta::ArgumentError);
}

}  // namespace
}  // namespace tests::json_lines_logger_test
