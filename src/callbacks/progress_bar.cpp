// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iomanip>

#include "base/text.h"
#include "torch_accelerated/trainer/trainer.h"

namespace torch_accelerated {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr int kWidestBar = 30;

int terminal_width() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

std::string as_clock(double seconds) {
  const auto whole = static_cast<long>(seconds);
  const auto padded = [](long value) { return concat(std::setw(2), std::setfill('0'), value); };
  const auto hours = whole / 3600 > 0 ? concat(whole / 3600, ":") : std::string();
  return hours + padded(whole / 60 % 60) + ":" + padded(whole % 60);
}

// `width` cells, the done part drawn heavy.
std::string drawn_bar(double done, int width) {
  const int heavy = std::clamp(static_cast<int>(done * width), 0, width);
  std::string bar = "\x1b[36m";
  for (int i = 0; i < heavy; ++i) bar += "━";
  bar += "\x1b[90m";
  for (int i = heavy; i < width; ++i) bar += "─";
  return bar + "\x1b[0m";
}

}  // namespace

/// The terminal's last line, redrawn in place.
class ProgressBar::Line {
 public:
  Line() : is_terminal_(::isatty(STDERR_FILENO) == 1) {}
  ~Line() { close(); }

  void open(bool shown, std::string label, std::optional<std::int64_t> total) {
    close();
    open_ = shown && is_terminal_;
    label_ = std::move(label);
    total_ = total;
    begin_ = Clock::now();
    last_drawn_ = begin_;
  }

  /// @param suffix  called only when the line is drawn.
  template <class Suffix>
  void update(std::int64_t done, const Suffix& suffix) {
    if (!open_) return;
    const auto now = Clock::now();
    done_ = done;
    if (now - last_drawn_ < kRedrawInterval) return;
    last_drawn_ = now;
    draw(suffix());
  }

  /// Takes the line away: what it told stands in the metrics that follow.
  void close() {
    if (!open_) return;
    std::fputs("\r\x1b[2K", stderr);
    std::fflush(stderr);
    open_ = false;
  }

 private:
  void draw(const std::string& suffix) {
    const double seconds = std::chrono::duration<double>(last_drawn_ - begin_).count();
    const double rate = static_cast<double>(done_) / seconds;
    std::string left = label_ + " ";
    std::string right = concat(" ", done_);
    double share = 0;
    if (total_) {
      share = static_cast<double>(done_) / static_cast<double>(*total_);
      right += concat("/", *total_, " ", static_cast<int>(share * 100), "%");
    }
    right += concat("  ", std::fixed, std::setprecision(rate < 10 ? 1 : 0), rate, "/s  ",
                    as_clock(seconds));
    if (total_) right += " < " + as_clock(static_cast<double>(*total_ - done_) / rate);
    right += suffix;
    write(left, right, share);
  }

  // Everything is ASCII but the bar, so sizes are columns; too narrow a terminal gets no bar.
  void write(const std::string& left, std::string right, double share) const {
    const int room = terminal_width() - 1 - static_cast<int>(left.size());
    const int bar = std::min(kWidestBar, room - static_cast<int>(right.size()));
    if (bar < 4) right.resize(std::min(right.size(), static_cast<std::size_t>(std::max(room, 0))));
    const auto line = left + (bar < 4 || !total_ ? "" : drawn_bar(share, bar)) + right;
    std::fprintf(stderr, "\r\x1b[2K%s", line.c_str());
    std::fflush(stderr);
  }

  bool is_terminal_;
  bool open_ = false;
  std::string label_;
  std::optional<std::int64_t> total_;
  std::int64_t done_ = 0;
  Clock::time_point begin_;
  Clock::time_point last_drawn_;
};

ProgressBar::ProgressBar()
    : training_(std::make_unique<Line>()), evaluation_(std::make_unique<Line>()) {}
ProgressBar::ProgressBar(ProgressBar&&) noexcept = default;
ProgressBar::~ProgressBar() = default;

void ProgressBar::on_train_epoch_start(Trainer& trainer, const TrainEpochStart& event) {
  training_->open(trainer.accelerator().is_main_process(), "train", event.batches);
}

void ProgressBar::on_train_step_end(Trainer& trainer, const TrainStepEnd& event) {
  training_->update(event.micro_batch + 1, [&] {
    return concat("  loss ", std::setprecision(4), trainer.progress().loss);
  });
}

void ProgressBar::on_train_epoch_end(Trainer&, const TrainEpochEnd&) { training_->close(); }

void ProgressBar::on_eval_epoch_start(Trainer& trainer, const EvalEpochStart& event) {
  evaluation_->open(trainer.accelerator().is_main_process(), "evaluate", event.batches);
}

void ProgressBar::on_eval_step_end(Trainer&, const EvalStepEnd& event) {
  evaluation_->update(event.batch_index + 1, [] { return std::string(); });
}

void ProgressBar::on_eval_epoch_end(Trainer&, const EvalEpochEnd&) { evaluation_->close(); }

void ProgressBar::on_stop_training_error(Trainer&, const StopTrainingError&) {
  evaluation_->close();
  training_->close();
}

}  // namespace torch_accelerated
