// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace torch_accelerated {

/// `checkpoint`, if all its files have the bytes that were written, or else the one that was
/// committed last before it in the same directory of which that is true, with a warning for each
/// that is passed over. All files of those that are looked at are read.
///
/// @throws CheckpointError  there is none; the text says what is wrong with `checkpoint`.
std::filesystem::path newest_undamaged(const std::filesystem::path& checkpoint);

}  // namespace torch_accelerated
