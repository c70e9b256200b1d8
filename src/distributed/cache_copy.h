// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace torch_accelerated::detail {

/// Copies bytes that another core has written a moment ago, or will read in a moment. The string
/// instructions that std::memcpy is made of are several times slower at that on some processors.
void cache_copy(std::byte* into, const std::byte* from, std::int64_t bytes);

/// Copies bytes that another core has written, and writes them back where they are. The lines of
/// the cache then belong to this core, which writes there next: to take a line from a core that
/// has written it is several times faster than to take it from two that have read it.
void cache_take(std::byte* into, std::byte* from, std::int64_t bytes);

}  // namespace torch_accelerated::detail
