// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "base/text.h"
#include "torch_accelerated/base/check.h"

namespace torch_accelerated {
namespace {

using Places = std::vector<std::size_t>;

void keep_first(const Places& places, std::int64_t count, std::vector<bool>& is_kept) {
  const auto most = static_cast<std::int64_t>(places.size());
  for (std::int64_t i = 0; i < std::min(count, most); ++i) {
    is_kept[places[static_cast<std::size_t>(i)]] = true;
  }
}

}  // namespace

std::vector<std::size_t> to_remove(const std::vector<FoundCheckpoint>& checkpoints,
                                   const RetentionOptions& options) {
  OptionCheck("checkpoints to keep")
      .require(!options.keep_newest || *options.keep_newest >= 0,
               concat("keep_newest must be >= 0, got ", options.keep_newest.value_or(0),
                      "; leave it out to keep all"))
      .require(options.keep_best >= 0,
               concat("keep_best must be >= 0, got ", options.keep_best, "; 0 keeps none for that"))
      .throw_if_any();
  if (!options.keep_newest) return {};

  Places places(checkpoints.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  std::vector<bool> is_kept(checkpoints.size());
  const auto sequence = [&](std::size_t i) { return checkpoints[i].manifest.sequence; };
  std::sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    return std::tuple(-sequence(a), a) < std::tuple(-sequence(b), b);
  });
  keep_first(places, std::max<std::int64_t>(*options.keep_newest, 1), is_kept);

  const auto metric = [&](std::size_t i) { return checkpoints[i].manifest.metric; };
  std::erase_if(places, [&](std::size_t i) { return !metric(i) || !std::isfinite(*metric(i)); });
  const double sign = options.lower_is_better ? 1 : -1;
  std::sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    return std::tuple(sign * *metric(a), sequence(a), a) <
           std::tuple(sign * *metric(b), sequence(b), b);
  });
  keep_first(places, options.keep_best, is_kept);

  std::vector<std::size_t> removed;
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    if (!is_kept[i] && !checkpoints[i].manifest.is_kept) removed.push_back(i);
  }
  return removed;
}

}  // namespace torch_accelerated
