// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/inverse_square_root.h"

#include <cmath>

#include "schedulers/schedule_options.h"

namespace torch_accelerated {
namespace {

constexpr std::int64_t kTimescaleUpdates = 10'000;

void check(const InverseSquareRootOptions& options) {
  OptionCheck check("inverse_square_root");
  check_warmup(check, options.warmup_updates, options.warmup_start_rate);
  check
      .require(
          !options.timescale_updates || *options.timescale_updates >= 1,
          concat("timescale_updates must be >= 1, got ", options.timescale_updates.value_or(1)))
      .throw_if_any();
}

double timescale(const InverseSquareRootOptions& options) {
  const auto other = options.warmup_updates > 0 ? options.warmup_updates : kTimescaleUpdates;
  return static_cast<double>(options.timescale_updates.value_or(other));
}

}  // namespace

double inverse_square_root_rate(std::int64_t update, double base_rate,
                                const InverseSquareRootOptions& options) {
  const std::int64_t begin = options.warmup_updates;
  if (update < begin) {
    return warmup_rate(update, begin, options.warmup_start_rate, base_rate);
  }
  const double scale = timescale(options);
  return base_rate * std::sqrt(scale / (scale + static_cast<double>(update - begin)));
}

Schedule inverse_square_root(InverseSquareRootOptions options) {
  check(options);
  return {"inverse_square_root", [options](const RunConfig& config) {
            if (config.total_updates) {
              check_warmup_fits("inverse_square_root", options.warmup_updates,
                                *config.total_updates);
            }
            return Curve{.rate = [options](std::int64_t update, double base_rate) {
              return inverse_square_root_rate(update, base_rate, options);
            }};
          }};
}

}  // namespace torch_accelerated
