// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "torch_accelerated/data/data_loader.h"

namespace torch_accelerated {

/// What a loader over `samples` samples will do, of what was asked: `cuda` becomes the current one.
/// @throws ArgumentError  options out of range, or that leave no batch (all told at once).
DataLoaderOptions resolved(DataLoaderOptions asked, std::int64_t samples);

}  // namespace torch_accelerated
