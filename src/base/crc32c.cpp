// SPDX-License-Identifier: Apache-2.0
#include "base/crc32c.h"

#include "base/crc32c_kernels.h"
#include "base/crc32c_polynomial.h"

namespace torch_accelerated {

void Crc32c::update(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  state_ = has_crc32c_hardware() ? extend_crc32c_by_hardware(state_, bytes, size)
                                 : extend_crc32c_by_table(state_, bytes, size);
}

std::uint32_t crc32c(const void* data, std::size_t size) {
  Crc32c crc;
  crc.update(data, size);
  return crc.value();
}

std::uint32_t combine_crc32c(std::uint32_t crc_a, std::uint32_t crc_b, std::uint64_t size_b) {
  return multiply_crc32c(crc_a, crc32c_shift(size_b)) ^ crc_b;
}

}  // namespace torch_accelerated
