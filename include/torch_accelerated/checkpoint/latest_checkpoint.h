// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>

namespace torch_accelerated {

/// The checkpoint in `directory` that was committed last, as `resume_from` takes it; nothing where
/// there is none or no such directory.
///
/// One whose manifest is damaged is passed over, with a warning. The files of the one given aren't
/// read yet.
/// @throws FileError  the directory can't be read.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& directory);

}  // namespace torch_accelerated
