// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace torch_accelerated {

/// Refuses JSON of which a JSON reader would keep overlong pieces: any text, number, word or white
/// space that goes beyond `SafetensorsLimits::kTextBytes`, and any zero byte.
///
/// @throws DataError  there is one; the text names its offset in the file.
void check_safetensors_tokens(std::string_view json, std::string_view file_name);

}  // namespace torch_accelerated
