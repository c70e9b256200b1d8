// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

namespace torch_accelerated {

/// The dtype in which autocast runs matrix products and convolutions.
enum class MixedPrecision {
  kNo,    ///< everything in the tensors' own dtypes
  kBf16,  ///< bfloat16; gradients and parameters stay float32
  kFp16,  ///< float16, likewise; losses are scaled, as LossScaling says
};

const char* to_string(MixedPrecision precision);

/// Turns autocast on for a scope and one thread, and back to what it was at the scope's end. Casts
/// of parameters are kept until the outermost such scope ends.
class Autocast {
 public:
  Autocast(c10::DeviceType device, MixedPrecision precision);
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  c10::DeviceType device_;
  bool active_;
  bool was_enabled_ = false;
  int previous_dtype_ = 0;
};

}  // namespace torch_accelerated
