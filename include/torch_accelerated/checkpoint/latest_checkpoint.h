// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>

#include "torch_accelerated/core/better.h"

namespace torch_accelerated {

/// The checkpoint in `directory` that was committed last, as `resume_from` takes it; nothing where
/// there is none or no such directory.
///
/// One whose manifest is damaged is passed over, with a warning. The files of the one given aren't
/// read yet.
/// @throws FileError  the directory can't be read.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& directory);

/// The checkpoint in `directory` whose metric, CheckpointOptions::metric of the run that wrote it,
/// is the best, the earliest of equals; nothing where none has one. Otherwise as latest_checkpoint.
std::optional<std::filesystem::path> best_checkpoint(const std::filesystem::path& directory,
                                                     Better direction = Better::kLower);

}  // namespace torch_accelerated
