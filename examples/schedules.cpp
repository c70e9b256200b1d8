// SPDX-License-Identifier: Apache-2.0

// Draws the library's schedules, one SVG file a family: those of docs/schedulers.md.
//
//   schedules [folder]     the folder exists; "." unless told otherwise
//
// The last line tells how many pictures it wrote: 5.

#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "torch_accelerated/base/line_chart.h"
#include "torch_accelerated/schedulers/chain.h"
#include "torch_accelerated/schedulers/cosine.h"
#include "torch_accelerated/schedulers/inverse_square_root.h"
#include "torch_accelerated/schedulers/one_cycle.h"
#include "torch_accelerated/schedulers/polynomial.h"
#include "torch_accelerated/schedulers/step_decay.h"
#include "torch_accelerated/schedulers/wsd.h"

namespace ta = torch_accelerated;

namespace {

constexpr std::int64_t kUpdates = 1000;
constexpr double kRate = 0.1;

struct Picture {
  std::string file;
  std::vector<ta::ChartLine> lines;
  ta::ChartOptions options;
};

ta::ChartLine line_of(const std::string& label, const std::function<double(std::int64_t)>& value) {
  ta::ChartLine line{.label = label, .x = {}, .y = {}};
  line.x.reserve(kUpdates / 2 + 1);
  line.y.reserve(kUpdates / 2 + 1);
  // Each second update is enough for a picture of 640 pixels.
  for (std::int64_t update = 0; update <= kUpdates; update += 2) {
    line.x.push_back(static_cast<double>(update));
    line.y.push_back(value(update));
  }
  return line;
}

ta::Curve curve_of(const ta::Schedule& schedule) {
  ta::RunConfig config;
  config.total_updates = kUpdates;
  return schedule.curve(config);
}

ta::ChartLine rates(const std::string& label, const ta::Schedule& schedule) {
  return line_of(label, [curve = curve_of(schedule)](std::int64_t update) {
    return curve.rate(update, kRate);
  });
}

ta::ChartOptions chart(const std::string& title, const std::string& y_label = "learning rate") {
  return {.title = title, .x_label = "update", .y_label = y_label};
}

Picture cosines() {
  return {"cosine.svg",
          {rates("warm-up 100", ta::cosine({.warmup_updates = 100})),
           rates("cool-down 200", ta::cosine({.warmup_updates = 100, .cooldown_updates = 200})),
           rates("minimum ratio 0.2", ta::cosine({.warmup_updates = 100, .min_ratio = 0.2})),
           rates("k-decay 2", ta::cosine({.warmup_updates = 100, .k_decay = 2}))},
          chart("Cosine")};
}

Picture polynomials() {
  return {"polynomial.svg",
          {rates("linear", ta::linear({.warmup_updates = 100})),
           rates("power 2", ta::polynomial({.power = 2, .warmup_updates = 100})),
           rates("power 0.5", ta::polynomial({.power = 0.5, .warmup_updates = 100}))},
          chart("Linear and polynomial")};
}

Picture wsds() {
  const auto wsd = [](ta::DecayShape shape) {
    return ta::wsd({.warmup_updates = 100, .decay_updates = 300, .decay = shape});
  };
  return {"wsd.svg",
          {rates("1 - sqrt", wsd(ta::DecayShape::kOneMinusSqrt)),
           rates("linear", wsd(ta::DecayShape::kLinear)),
           rates("cosine", wsd(ta::DecayShape::kCosine))},
          chart("Warm-up, stable, decay")};
}

Picture one_cycles() {
  const auto momentum = curve_of(ta::one_cycle()).momentum;
  // Both fall between 0 and 1, so that one pair of axes shows them.
  const auto part = [](const ta::Schedule& schedule) {
    return [curve = curve_of(schedule)](std::int64_t update) { return curve.rate(update, 1); };
  };
  return {"one_cycle.svg",
          {line_of("rate / peak", part(ta::one_cycle())),
           line_of("three phases", part(ta::one_cycle({.three_phases = true}))),
           line_of("momentum", [momentum](std::int64_t update) { return momentum(update, 0.9); })},
          chart("One cycle", "rate / peak, momentum")};
}

Picture steps_and_chains() {
  const auto warmup = ta::wsd({.warmup_updates = 100, .decay_updates = 0});
  return {"steps.svg",
          {rates("step", ta::step_decay({.every_updates = 300, .factor = 0.5})),
           rates("multi-step", ta::multi_step_decay({.milestones = {500, 750}, .factor = 0.3})),
           rates("inverse square root", ta::inverse_square_root({.warmup_updates = 100})),
           rates("chain: warm-up, linear, cosine",
                 ta::chain({{.schedule = warmup, .updates = 100},
                            {.schedule = ta::linear({.min_ratio = 0.5}), .fraction = 0.4},
                            {.schedule = ta::cosine()}}))},
          chart("Steps, inverse square root and a chain")};
}

void write(const std::filesystem::path& folder, const Picture& picture) {
  std::ofstream file(folder / picture.file, std::ios::binary);
  file << ta::line_chart_svg(picture.lines, picture.options);
  file.close();
  if (!file) throw std::runtime_error("can't write " + (folder / picture.file).string());
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::filesystem::path folder = count > 1 ? arguments[1] : ".";
    const std::vector<Picture> pictures{cosines(), polynomials(), wsds(), one_cycles(),
                                        steps_and_chains()};
    for (const auto& picture : pictures) write(folder, picture);
    std::cout << pictures.size() << " pictures in " << folder.string() << '\n';
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
