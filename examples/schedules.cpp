// SPDX-License-Identifier: Apache-2.0
//
// Draws the pictures of the docs as SVG files: the library's schedules, one file a family, and what
// the learning rate finder sees of a small network that begins to learn digits.
//
//   build/examples/schedules [FOLDER]     the folder exists; "." unless told otherwise
//
// The last line tells how many pictures it wrote: "6 pictures in FOLDER".
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "support/small_data.h"

namespace ta = torch_accelerated;

namespace {

constexpr std::int64_t kUpdates = 1000;
constexpr double kRate = 0.1;

struct Picture {
  std::string file;
  std::string svg;
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

std::string chart(const std::string& title, const std::vector<ta::ChartLine>& lines,
                  const std::string& y_label = "learning rate") {
  return ta::line_chart_svg(lines, {.title = title, .x_label = "update", .y_label = y_label});
}

Picture cosines() {
  return {
      "cosine.svg",
      chart("Cosine",
            {rates("warm-up 100", ta::cosine({.warmup_updates = 100})),
             rates("cool-down 200", ta::cosine({.warmup_updates = 100, .cooldown_updates = 200})),
             rates("minimum ratio 0.2", ta::cosine({.warmup_updates = 100, .min_ratio = 0.2})),
             rates("k-decay 2", ta::cosine({.warmup_updates = 100, .k_decay = 2}))})};
}

Picture polynomials() {
  return {"polynomial.svg",
          chart("Linear and polynomial",
                {rates("linear", ta::linear({.warmup_updates = 100})),
                 rates("power 2", ta::polynomial({.power = 2, .warmup_updates = 100})),
                 rates("power 0.5", ta::polynomial({.power = 0.5, .warmup_updates = 100}))})};
}

Picture wsds() {
  const auto wsd = [](ta::DecayShape shape) {
    return ta::wsd({.warmup_updates = 100, .decay_updates = 300, .decay = shape});
  };
  return {"wsd.svg",
          chart("Warm-up, stable, decay", {rates("1 - sqrt", wsd(ta::DecayShape::kOneMinusSqrt)),
                                           rates("linear", wsd(ta::DecayShape::kLinear)),
                                           rates("cosine", wsd(ta::DecayShape::kCosine))})};
}

Picture one_cycles() {
  const auto momentum = curve_of(ta::one_cycle()).momentum;
  // Both fall between 0 and 1, so that one pair of axes shows them.
  const auto part = [](const ta::Schedule& schedule) {
    return [curve = curve_of(schedule)](std::int64_t update) { return curve.rate(update, 1); };
  };
  return {"one_cycle.svg",
          chart("One cycle",
                {line_of("rate / peak", part(ta::one_cycle())),
                 line_of("three phases", part(ta::one_cycle({.three_phases = true}))),
                 line_of("momentum",
                         [momentum](std::int64_t update) { return momentum(update, 0.9); })},
                "rate / peak, momentum")};
}

Picture steps_and_chains() {
  const auto warmup = ta::wsd({.warmup_updates = 100, .decay_updates = 0});
  return {
      "steps.svg",
      chart("Steps, inverse square root and a chain",
            {rates("step", ta::step_decay({.every_updates = 300, .factor = 0.5})),
             rates("multi-step", ta::multi_step_decay({.milestones = {500, 750}, .factor = 0.3})),
             rates("inverse square root", ta::inverse_square_root({.warmup_updates = 100})),
             rates("chain: warm-up, linear, cosine",
                   ta::chain({{.schedule = warmup, .updates = 100},
                              {.schedule = ta::linear({.min_ratio = 0.5}), .fraction = 0.4},
                              {.schedule = ta::cosine()}}))})};
}

// On the CPU and in double precision, so that the picture is the same wherever it is drawn.
Picture learning_rate_finder() {
  const auto digits = examples::small_digits({.images = 2'000}).train;
  std::vector<std::int64_t> indices(static_cast<std::size_t>(digits.size()));
  std::iota(indices.begin(), indices.end(), 0);
  auto data = digits.get_batch(indices);
  data.set("data", data["data"].to(torch::kFloat64));

  torch::manual_seed(0);
  torch::nn::Sequential model(torch::nn::Flatten(), torch::nn::Linear(28 * 28, 64),
                              torch::nn::ReLU(), torch::nn::Linear(64, 10));
  model->to(torch::kFloat64);
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  ta::Accelerator accelerator({.device = "cpu"});
  ta::Trainer trainer(model, torch::nn::CrossEntropyLoss(), optimizer, ta::CallbackList(),
                      &accelerator);
  const auto found = ta::find_learning_rate(
      trainer, data, {.start_rate = 1e-5, .end_rate = 10, .train = {.global_batch_size = 64}});
  return {"learning-rate-finder.svg", found.svg()};
}

void write(const std::filesystem::path& folder, const Picture& picture) {
  std::ofstream file(folder / picture.file, std::ios::binary);
  file << picture.svg;
  file.close();
  if (!file) throw ta::FileError("can't write " + (folder / picture.file).string());
}

}  // namespace

int main(int count, char** arguments) {
  return ta::run([&] {
    const std::filesystem::path folder = count > 1 ? arguments[1] : ".";
    const std::vector<Picture> pictures{cosines(),    polynomials(),      wsds(),
                                        one_cycles(), steps_and_chains(), learning_rate_finder()};
    for (const auto& picture : pictures) write(folder, picture);
    std::cout << pictures.size() << " pictures in " << folder.string() << '\n';
  });
}
