// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/csv_logger.h"

#include <gmock/gmock.h>

#include <fstream>
#include <limits>
#include <sstream>

#include "callbacks/line_file.h"
#include "callbacks/lines_at_step_start.h"
#include "callbacks/row_text.h"
#include "support/temp_dir.h"
#include "support/tiny.h"
#include "torch_accelerated/callbacks/step_based_evaluation.h"

namespace tests::csv_logger_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

struct Fixture {
  explicit Fixture(const std::filesystem::path& path) {
    trainer.callbacks().add(ta::CsvLogger(path));
  }
  void run(std::int64_t epochs, ta::Dataset eval_dataset = {}) {
    trainer.train(tiny_batch(8), {.num_epochs = epochs,
                                  .eval_dataset = std::move(eval_dataset),
                                  .per_device_batch_size = 4});
  }
  torch::nn::Sequential net = tiny_net();
  torch::optim::SGD optimizer = sgd(net);
  ta::Trainer trainer{net, torch::nn::MSELoss(), optimizer, ta::CallbackList()};
};

TEST(CsvLogger, WritesTheHistorysRowsToTheBit) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.csv";
  Fixture f(path);
  f.run(3, tiny_batch(4));
  const auto lines = lines_of(path);
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines[0], StartsWith("epoch,updates,intermediate,train_loss,eval_loss,"));
  const auto columns = ta::csv_fields(lines[0]);
  const auto& rows = f.trainer.history().rows();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto fields = ta::csv_fields(lines[i + 1]);
    ASSERT_EQ(fields.size(), columns.size());
    EXPECT_EQ(fields[0], std::to_string(i + 1));
    EXPECT_EQ(fields[1], std::to_string(2 * (i + 1)));
    EXPECT_EQ(fields[2], "false");
    for (std::size_t j = 3; j < columns.size(); ++j) {
      EXPECT_EQ(std::stod(fields[j]), rows[i].metrics[columns[j]]) << columns[j];
    }
  }
  // A second run of the same program goes on in the same file.
  f.run(1, tiny_batch(4));
  EXPECT_THAT(lines_of(path), SizeIs(5));
}

TEST(CsvLogger, WidensTheHeaderForANewMetricAndLeavesNoOtherFile) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.csv";
  Fixture f(path);
  f.trainer.callbacks().add(ta::StepBasedEvaluation({.every_updates = 1}));
  f.run(1, tiny_batch(4));  // the rows of two intermediate evaluations, then the epoch's
  const auto lines = lines_of(path);
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines[0],
              StartsWith("epoch,updates,intermediate,intermediate_eval_loss,train_loss,"));
  const auto columns = ta::csv_fields(lines[0]).size();
  for (const auto& line : lines) EXPECT_THAT(ta::csv_fields(line), SizeIs(columns));
  EXPECT_THAT(lines[1], StartsWith("1,1,true,"));
  EXPECT_EQ(ta::csv_fields(lines[3])[3], "");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(CsvLogger, GoesOnWithAFileOfAnEarlierRunWithoutItsTornLine) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.csv";
  write(path, "epoch,updates,intermediate,eval_auc\n1,2,false,0.5\n2,4,fal");
  std::filesystem::permissions(
      path, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const auto link = dir.path() / "link.csv";
  std::filesystem::create_symlink(path, link);
  Fixture f(link);
  f.run(1);
  const auto lines = lines_of(path);
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(lines[0], StartsWith("epoch,updates,intermediate,eval_auc,train_loss,"));
  EXPECT_THAT(lines[1], StartsWith("1,2,false,0.5,,"));
  EXPECT_THAT(lines[2], StartsWith("1,2,false,,"));
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST(CsvLogger, CutsNothingForTheStateOfALoggerThatHasNoFileYet) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.csv";
  Fixture(path).run(2);
  Fixture f(path);
  auto& logger = *f.trainer.callbacks().find<ta::CsvLogger>();
  logger.load_state(ta::State().set("lines", std::int64_t{1}).set("rows", std::int64_t{0}));
  logger.load_state(ta::CsvLogger(path).state());
  f.run(1);
  EXPECT_THAT(lines_of(path), SizeIs(4));  // the header and all three rows
}

TEST(CsvLogger, HasAnIntermediateRowBeforeTheNextMicroBatchWhateverTheOrder) {
  const ta::testing::TempDir dir;
  for (const bool is_last : {false, true}) {
    const auto path = dir.path() / (is_last ? "last.csv" : "first.csv");
    torch::nn::Sequential net = tiny_net();
    auto optimizer = sgd(net);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
    auto& callbacks = trainer.callbacks();
    if (!is_last) callbacks.add(ta::CsvLogger(path));
    callbacks.add(ta::StepBasedEvaluation({.every_updates = 1}));
    if (is_last) callbacks.add(ta::CsvLogger(path));
    callbacks.add(LinesAtStepStart(path));
    trainer.train(tiny_batch(12),
                  {.num_epochs = 1, .eval_dataset = tiny_batch(4), .per_device_batch_size = 4});
    EXPECT_THAT(callbacks.find<LinesAtStepStart>()->lines, ElementsAre(0, 2, 3));
  }
}

TEST(CsvLogger, LeavesAFileOfAnotherKindAlone) {
  const ta::testing::TempDir dir;
  const auto path = dir.path() / "log.csv";
  for (const std::string content : {"name,age\nAda,36\n", "epoch,updates,intermediate", "\n"}) {
    write(path, content);
    Fixture f(path);
    EXPECT_THAT(message_of<ta::ArgumentError>([&] { f.run(1); }),
                AllOf(HasSubstr(path.string()), HasSubstr("give another path, or remove it")));
    std::ostringstream after;
    after << std::ifstream(path).rdbuf();
    EXPECT_EQ(after.str(), content);
    EXPECT_EQ(f.trainer.progress().update, 0);
  }
  EXPECT_THROW(ta::CsvLogger(""), ta::ArgumentError);
}

TEST(CsvLogger, SaysAtTheStartWhichFileCannotBeWrittenAndWhy) {
  const ta::testing::TempDir dir;
  Fixture nowhere(dir.path() / "none" / "log.csv");
  EXPECT_THAT(message_of<ta::Error>([&] { nowhere.run(1); }),
              AllOf(HasSubstr("CsvLogger: "), HasSubstr("none/log.csv"),
                    HasSubstr("No such file or directory")));
  Fixture folder(dir.path());
  EXPECT_THAT(message_of<ta::Error>([&] { folder.run(1); }), HasSubstr("Is a directory"));
  try {
    ta::LineFile("test", "/dev/full").append("a line\n");
    FAIL() << "the disk is full";
  } catch (const ta::Error& error) {
    EXPECT_EQ(error.exit_code(), ta::ExitCode::kInputOutput);
    EXPECT_THAT(error.what(), HasSubstr("No space left on device"));
  }
}

TEST(CsvText, QuotesAndReadsBackAnyName) {
  const std::vector<std::string> names = {"plain", "with, comma", "with \"quotes\"", "", ",\","};
  const auto line = ta::csv_line(names);
  EXPECT_EQ(ta::csv_fields(line.substr(0, line.size() - 1)), names);
  ta::HistoryRow row{
      2,
      7,
      {{"a,b", 0.1}, {"two\nlines", 1e300}, {"bad", -std::numeric_limits<double>::infinity()}}};
  auto columns = ta::first_columns();
  EXPECT_TRUE(ta::add_columns(row, columns));
  EXPECT_FALSE(ta::add_columns(row, columns));
  EXPECT_THAT(columns, ElementsAre("epoch", "updates", "intermediate", "a,b", "two lines", "bad"));
  EXPECT_EQ(ta::csv_line(columns), "epoch,updates,intermediate,\"a,b\",two lines,bad\n");
  EXPECT_EQ(ta::csv_line(row, columns), "2,7,false,0.1,1e+300,-inf\n");
}

}  // namespace
}  // namespace tests::csv_logger_test
