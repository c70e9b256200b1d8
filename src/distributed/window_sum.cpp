// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "distributed/cache_copy.h"
#include "distributed/rank_sum.h"
#include "distributed/window_channel.h"

namespace torch_accelerated::detail {
namespace {

// Summands up to here travel together, whole, with the call: one phase rather than two.
constexpr std::int64_t kSmall = 1024;

}  // namespace

// Sorts the summands into small and large ones and returns the bytes of the small ones; the same on
// all ranks.
std::int64_t WindowChannel::divide(std::span<const Summand> summands) {
  small_.clear();
  large_.clear();
  std::int64_t bytes = 0;
  for (const auto& summand : summands) {
    const auto more = aligned(summand.bytes);
    if (summand.bytes <= kSmall && bytes + more <= WindowArea::kInSlot) {
      small_.push_back(summand);
      bytes += more;
    } else {
      large_.emplace_back(summand, place_of(summand));
    }
  }
  return bytes;
}

WindowChannel::Place WindowChannel::place_of(const Summand& summand) const {
  for (std::size_t i = 1; i < windows().size(); ++i) {
    const auto& buffer = windows()[i];
    const auto offset = summand.data - buffer.area_of(rank());
    if (offset < 0 || offset + summand.bytes > static_cast<std::int64_t>(buffer.bytes())) continue;
    return {&buffer, offset, static_cast<std::uint64_t>(offset) << 16 | i};
  }
  return {};
}

void WindowChannel::all_reduce(const Call& mine, std::chrono::milliseconds timeout,
                               std::span<const Summand> summands, SumOrder order) {
  begin_operation(mine, timeout);
  const auto bytes = divide(summands);
  const bool in_head = bytes <= WindowArea::kInHead;
  if (!in_head) ++slot_uses_;
  std::byte* out = in_head ? head_of(rank()).data : slot_of(rank());
  for (const auto& summand : small_) {
    cache_copy(out, summand.data, summand.bytes);
    out += aligned(summand.bytes);
  }
  std::uint64_t placement = 0;
  for (const auto& [summand, place] : large_) placement = placement * 31 + place.id;
  arrive(mine.agreement, placement);
  wait_for_all();
  check_calls();
  sum_small(order, in_head);
  if (large_.empty()) return;
  const bool has_places = sum_in_place(order);
  for (const auto& [summand, place] : large_) {
    if (!has_places || place.window == nullptr) sum_in_chunks(summand, order);
  }
}

// Every rank sums all of it: that is less work than to wait once more.
void WindowChannel::sum_small(SumOrder order, bool in_head) {
  std::int64_t at = 0;
  for (const auto& summand : small_) {
    for (int peer = 0; peer < size(); ++peer) {
      const std::byte* whole = in_head ? head_of(peer).data : slot_of(peer);
      parts_[static_cast<std::size_t>(peer)] = peer == rank() ? summand.data : whole + at;
    }
    sum_over_ranks(summand.data, parts_, summand.count, summand.dtype, order);
    at += aligned(summand.bytes);
  }
}

// Sums what lies in windows, where all ranks have it at the same places; else returns false.
bool WindowChannel::sum_in_place(SumOrder order) {
  bool any = false;
  for (int peer = 0; peer < size(); ++peer) {
    if (head_of(peer).placement != head_of(rank()).placement) return false;
  }
  outs_.resize(parts_.size());
  for (const auto& [summand, place] : large_) {
    if (place.window == nullptr) continue;
    any = true;
    const Slices slices(summand.bytes, size(), place.offset);
    for (int peer = 0; peer < size(); ++peer) {
      const auto index = static_cast<std::size_t>(peer);
      outs_[index] = place.window->area_of(peer) + place.offset + slices.begin_of(rank());
      parts_[index] = outs_[index];
    }
    const auto item = summand.bytes / summand.count;
    sum_over_ranks(outs_, parts_, slices.bytes_of(rank()) / item, summand.dtype, order);
  }
  if (!any) return true;
  begin_phase();
  arrive();
  wait_for_all();
  return true;
}

void WindowChannel::sum_in_chunks(const Summand& summand, SumOrder order) {
  const auto item = summand.bytes / summand.count;
  for (std::int64_t at = 0; at < summand.bytes; at += WindowArea::kInSlot) {
    const auto bytes = std::min(summand.bytes - at, WindowArea::kInSlot);
    sum_chunk({summand.data + at, bytes / item, bytes, summand.dtype}, order);
  }
}

// Each rank puts the others' slices into its slot, sums its own slice there, and fetches their
// sums. A line of a slot is only ever written or taken, by one rank at a time.
void WindowChannel::sum_chunk(const Summand& chunk, SumOrder order) {
  const Slices slices(chunk.bytes, size());
  const auto own = slices.begin_of(rank());
  const auto own_end = slices.begin_of(rank() + 1);
  begin_phase();
  ++slot_uses_;
  std::byte* slot = slot_of(rank());
  cache_copy(slot, chunk.data, own);
  cache_copy(slot + own_end, chunk.data + own_end, chunk.bytes - own_end);
  arrive();
  wait_for_all();
  outs_.clear();
  for (int peer = 0; peer < size(); ++peer) {
    outs_.push_back((peer == rank() ? chunk.data : slot_of(peer)) + own);
  }
  std::copy(outs_.begin(), outs_.end(), parts_.begin());
  const auto item = chunk.bytes / chunk.count;
  sum_over_ranks(outs_, parts_, (own_end - own) / item, chunk.dtype, order);
  begin_phase();
  arrive();
  wait_for_all();
  cache_take(chunk.data, slot, own);
  cache_take(chunk.data + own_end, slot + own_end, chunk.bytes - own_end);
}

}  // namespace torch_accelerated::detail
