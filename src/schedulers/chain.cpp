// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/schedulers/chain.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/check.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

struct Link {
  std::int64_t begin;
  Curve curve;
};

void check(const std::vector<ChainStage>& stages) {
  OptionCheck check("chain");
  check.require(!stages.empty(), "there are no stages; give at least one");
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const auto& [schedule, updates, fraction] = stages[i];
    const auto stage = concat("stage ", i, " (", schedule.name(), ") ");
    check.require(!updates || !fraction, concat(stage, "has both updates and fraction; give one"))
        .require(updates || fraction || i + 1 == stages.size(),
                 concat(stage, "has no length; only the last takes what is left"))
        .require(!updates || *updates >= 1,
                 concat(stage, "must have updates >= 1, got ", updates.value_or(1)))
        .require(!fraction || (*fraction > 0 && *fraction <= 1),
                 concat(stage, "must have a fraction in (0, 1], got ", fraction.value_or(1)));
  }
  check.throw_if_any();
}

// Where stages end. Fractions are added up before they are rounded, so that no update is lost.
class Lengths {
 public:
  explicit Lengths(std::optional<std::int64_t> total) : total_(total) {}

  /// The end of a stage, from the run's beginning; nothing where that isn't known.
  std::optional<std::int64_t> end_of(const ChainStage& stage) {
    if (!stage.updates && !stage.fraction) return total_;
    if (stage.fraction && !total_) {
      throw ArgumentError(
          "chain: a stage's fraction is of a run whose length is not known; set "
          "TrainOptions::max_updates, or the stage's updates");
    }
    // A stage longer than the run is refused by what asked for the end, before a sum overflows.
    if (stage.updates && *stage.updates > kMost - updates_) return kMost;
    updates_ += stage.updates.value_or(0);
    fraction_ += stage.fraction.value_or(0);
    const double of_run = total_ ? fraction_ * static_cast<double>(*total_) : 0;
    return updates_ + std::llround(of_run);
  }

 private:
  static constexpr std::int64_t kMost = std::int64_t{1} << 62;

  std::optional<std::int64_t> total_;
  std::int64_t updates_ = 0;
  double fraction_ = 0;
};

std::vector<Link> links_of(const std::vector<ChainStage>& stages, const RunConfig& config) {
  std::vector<Link> links;
  links.reserve(stages.size());
  Lengths lengths(config.total_updates);
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const auto end = lengths.end_of(stages[i]);
    const auto stage = concat("chain: stage ", i, " (", stages[i].schedule.name(), ") ");
    if (end && config.total_updates && *end > *config.total_updates) {
      throw ArgumentError(concat(stage, "ends at update ", *end, " of a run of ",
                                 *config.total_updates, "; shorten the stages"));
    }
    if (end && *end <= begin) {
      throw ArgumentError(concat(stage, "has no update in a run of ",
                                 config.total_updates.value_or(*end),
                                 "; lengthen it, or shorten those before it"));
    }
    auto own = config;
    own.total_updates = end ? std::optional(*end - begin) : std::nullopt;
    links.push_back({begin, stages[i].schedule.curve(own)});
    begin = end.value_or(begin);
  }
  return links;
}

// The last stage that has begun.
const Link& link_at(const std::vector<Link>& links, std::int64_t update) {
  const auto next =
      std::upper_bound(links.begin() + 1, links.end(), update,
                       [](std::int64_t at, const Link& link) { return at < link.begin; });
  return *(next - 1);
}

Curve chained(std::vector<Link> links) {
  Curve whole;
  bool has_momentum = false;
  for (const auto& link : links) {
    whole.least_base_rate = std::max(whole.least_base_rate, link.curve.least_base_rate);
    has_momentum = has_momentum || link.curve.momentum;
  }
  if (has_momentum) {
    whole.momentum = [links](std::int64_t update, double base) {
      const auto& [begin, curve] = link_at(links, update);
      return curve.momentum ? curve.momentum(update - begin, base) : base;
    };
  }
  whole.rate = [links = std::move(links)](std::int64_t update, double base) {
    const auto& [begin, curve] = link_at(links, update);
    return curve.rate(update - begin, base);
  };
  return whole;
}

std::string name_of(const std::vector<ChainStage>& stages) {
  std::string name;
  for (const auto& stage : stages) {
    if (!name.empty()) name += ", then ";
    name += stage.schedule.name();
  }
  return name;
}

}  // namespace

Schedule chain(std::vector<ChainStage> stages) {
  check(stages);
  auto name = name_of(stages);
  return {std::move(name), [stages = std::move(stages)](const RunConfig& config) {
            return chained(links_of(stages, config));
          }};
}

}  // namespace torch_accelerated
