// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace torch_accelerated {

inline constexpr std::string_view kManifestName = "manifest.json";
inline constexpr std::string_view kNewManifestName = "manifest.json.tmp";  ///< until it is renamed
inline constexpr std::string_view kLockName = "lock";

/// The largest number that stands in a name or manifest, exact in any JSON reader.
inline constexpr std::int64_t kLargestNumber = std::int64_t{1} << 53;

/// What the name of a checkpoint's folder says.
struct CheckpointName {
  std::int64_t update = 0;
  std::int64_t number = 1;  ///< counts the checkpoints of one update

  bool operator==(const CheckpointName&) const = default;
};

/// "update-000000123", or "update-000000123-2" for the second checkpoint of that update.
std::string checkpoint_folder_name(const CheckpointName& name);

/// What such a name says; nothing where it is any other name.
std::optional<CheckpointName> parse_checkpoint_folder_name(std::string_view name);

/// Whether a checkpoint of ours may hold a file of this name besides its manifest. Only these are
/// ever deleted.
bool is_checkpoint_file_name(std::string_view name);

/// Whether it is 1 to 255 letters, digits, '.', '_' and '-' and doesn't begin with '.', so that it
/// names a file of the folder it is looked for in.
bool is_plain_file_name(std::string_view name);

/// ".token-" and 16 random hexadecimal digits.
std::string new_token_name();
bool is_token_name(std::string_view name);

}  // namespace torch_accelerated
