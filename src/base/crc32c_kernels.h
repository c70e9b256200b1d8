// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace torch_accelerated {

// Both take the state before the bytes and give the state after them; a state is the complement of
// a checksum.

/// On any machine: eight bytes a step, by tables.
std::uint32_t extend_crc32c_by_table(std::uint32_t state, const std::uint8_t* data,
                                     std::size_t size);

/// Whether this processor has an instruction for CRC32C that `extend_crc32c_by_hardware` uses.
bool has_crc32c_hardware();

/// By the processor's instruction, three streams at a time; only where `has_crc32c_hardware()`.
std::uint32_t extend_crc32c_by_hardware(std::uint32_t state, const std::uint8_t* data,
                                        std::size_t size);

}  // namespace torch_accelerated
