// SPDX-License-Identifier: Apache-2.0
#include "distributed/late_ranks.h"

#include "base/text.h"

namespace torch_accelerated::detail {
namespace {

constexpr int kMostTold = 8;  // of a thousand ranks that wait, a few are enough

}  // namespace

void LateRanks::add_late(int rank, const std::string& last_seen) {
  if (late_++ >= kMostTold) return;
  late_text_ += concat(late_ > 1 ? "; " : "", "rank ", rank, " did not come within ",
                       timeout_.count(), " ms", last_seen.empty() ? "" : ", last seen ", last_seen);
}

void LateRanks::add_waiting(int rank) {
  if (waiting_++ < kMostTold) waiting_text_ += concat(waiting_ > 1 ? ", " : "", rank);
}

std::string LateRanks::text() const {
  // All have come when the last one did so while this text was made.
  const auto late =
      late_ > 0 ? late_text_ : concat("it took longer than ", timeout_.count(), " ms");
  const auto more_late = late_ > kMostTold ? concat("; so did ", late_ - kMostTold, " more") : "";
  const auto more = waiting_ > kMostTold ? concat(" and ", waiting_ - kMostTold, " more") : "";
  return concat(call_, ": ", late, more_late, "; ", waiting_ == 1 ? "rank " : "ranks ",
                waiting_text_, more, waiting_ == 1 ? " waits" : " wait",
                "; every rank has to call it, and set_timeout gives them more time");
}

}  // namespace torch_accelerated::detail
