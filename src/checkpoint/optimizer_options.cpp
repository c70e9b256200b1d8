// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/optimizer_options.h"

#include <torch/torch.h>

#include <optional>
#include <tuple>

#include "base/text.h"
#include "checkpoint/optimizer_fields.h"

namespace torch_accelerated {
namespace {

/// Adds fields to a line, with all of a number's digits.
class Describer {
 public:
  explicit Describer(std::string& line) : line_(line) {}

  void operator()(const char* name, bool value) { add(name, value ? "yes" : "no"); }
  void operator()(const char* name, double value) { add(name, exact_text(value)); }
  void operator()(const char* name, std::int64_t value) { add(name, concat(value)); }
  void operator()(const char* name, const std::string& value) { add(name, value); }
  void operator()(const char* name, const std::tuple<double, double>& value) {
    add(name, exact_text(std::get<0>(value)) + " and " + exact_text(std::get<1>(value)));
  }
  template <class Type>
  void operator()(const char* name, const std::optional<Type>& value) {
    if (value) (*this)(name, *value);
  }

 private:
  void add(const char* name, const std::string& text) {
    line_ += concat(line_.empty() ? "" : ", ", name, " ", text);
  }

  std::string& line_;
};

}  // namespace

std::vector<std::string> described_options(const torch::optim::Optimizer& optimizer) {
  std::vector<std::string> lines;
  for (const auto& group : optimizer.param_groups()) {
    const auto options = group.options().clone();  // fields are visited to be changed
    auto& line = lines.emplace_back();
    const bool known = with_types(optimizer, [&]<class TheTypes>(TheTypes) {
      visit_fields(static_cast<typename TheTypes::OptionsType&>(*options), Describer(line));
    });
    if (!known) line = "lr " + exact_text(options->get_lr());
  }
  return lines;
}

}  // namespace torch_accelerated
