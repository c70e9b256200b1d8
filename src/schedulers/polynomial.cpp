// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/polynomial.h"

#include <cmath>

#include "schedulers/schedule_options.h"

namespace torch_accelerated {
namespace {

void check(const char* call, const PolynomialOptions& options) {
  OptionCheck check(call);
  check_warmup(check, options.warmup_updates, options.warmup_start_rate);
  check_minimum(check, options.min_rate, options.min_ratio);
  check_total(check, options.total_updates);
  check
      .require(std::isfinite(options.power) && options.power > 0,
               concat("power must be finite and > 0, got ", options.power, "; 1 is linear"))
      .throw_if_any();
}

PolynomialOptions as_polynomial(const LinearOptions& options) {
  return {.power = 1,
          .warmup_updates = options.warmup_updates,
          .warmup_start_rate = options.warmup_start_rate,
          .min_rate = options.min_rate,
          .min_ratio = options.min_ratio,
          .total_updates = options.total_updates};
}

Schedule schedule(const char* name, const PolynomialOptions& options) {
  check(name, options);
  return {
      name, [name, options](const RunConfig& config) {
        auto whole = options;
        whole.total_updates = total_of(name, options.total_updates, config, options.warmup_updates);
        check_warmup_fits(name, whole.warmup_updates, *whole.total_updates);
        return Curve{
            .rate = [whole](std::int64_t update,
                            double base_rate) { return polynomial_rate(update, base_rate, whole); },
            .least_base_rate = whole.min_rate};
      }};
}

}  // namespace

double polynomial_rate(std::int64_t update, double base_rate, const PolynomialOptions& options) {
  const std::int64_t begin = options.warmup_updates;
  const std::int64_t end = given_total("polynomial_rate", options.total_updates);
  if (update < begin) {
    return warmup_rate(update, begin, options.warmup_start_rate, base_rate);
  }
  const double lowest = minimum(base_rate, options.min_rate, options.min_ratio);
  if (update >= end) return lowest;
  double left = static_cast<double>(end - update) / static_cast<double>(end - begin);
  if (options.power != 1) left = std::pow(left, options.power);
  return lowest + (base_rate - lowest) * left;
}

double linear_rate(std::int64_t update, double base_rate, const LinearOptions& options) {
  return polynomial_rate(update, base_rate, as_polynomial(options));
}

Schedule polynomial(PolynomialOptions options) { return schedule("polynomial", options); }

Schedule linear(LinearOptions options) { return schedule("linear", as_polynomial(options)); }

}  // namespace torch_accelerated
