// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/accelerator/autocast.h"

#include <ATen/autocast_mode.h>

namespace torch_accelerated {

const char* to_string(MixedPrecision precision) {
  switch (precision) {
    case MixedPrecision::kNo:
      return "no";
    case MixedPrecision::kBf16:
      return "bf16";
    case MixedPrecision::kFp16:
      return "fp16";
  }
  return "unknown";
}

Autocast::Autocast(c10::DeviceType device, MixedPrecision precision)
    : device_(device), active_(precision != MixedPrecision::kNo) {
  if (!active_) return;
  was_enabled_ = at::autocast::is_autocast_enabled(device_);
  previous_dtype_ = static_cast<int>(at::autocast::get_autocast_dtype(device_));
  at::autocast::set_autocast_enabled(device_, true);
  at::autocast::set_autocast_dtype(device_,
                                   precision == MixedPrecision::kFp16 ? at::kHalf : at::kBFloat16);
  at::autocast::increment_nesting();
}

Autocast::~Autocast() {
  if (!active_) return;
  // The cache holds casts of parameters, which the next update makes stale.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_dtype(device_, static_cast<at::ScalarType>(previous_dtype_));
}

}  // namespace torch_accelerated
