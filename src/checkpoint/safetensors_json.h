// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "checkpoint/safetensors_header.h"

namespace torch_accelerated {

/// Reads a header's JSON: tensors and metadata in the order in which they are written, every value
/// of the right type, below its limit and there once. Whether names are there twice and how the
/// tensors lie is not looked at.
///
/// @throws DataError  anything else.
SafetensorsHeader read_safetensors_json(std::string_view json, std::string_view file_name);

}  // namespace torch_accelerated
