// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <random>
#include <system_error>

#include "base/text.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kFolderPrefix = "update-";
constexpr std::string_view kRankPrefix = "rank-";
constexpr std::string_view kRankSuffix = ".safetensors";
constexpr std::string_view kTokenPrefix = ".token-";
constexpr std::string_view kDigits = "0123456789";
constexpr std::size_t kTokenDigits = 16;

std::string padded(std::int64_t number, std::size_t width) {
  auto digits = std::to_string(number);
  if (digits.size() < width) digits.insert(0, width - digits.size(), '0');
  return digits;
}

// Of a text of digits alone.
std::optional<std::int64_t> number_of(std::string_view digits) {
  if (digits.empty() || digits.find_first_not_of(kDigits) != std::string_view::npos) {
    return std::nullopt;
  }
  std::int64_t number = 0;
  const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (result.ec != std::errc() || number > kLargestNumber) return std::nullopt;
  return number;
}

// "rank-00003.safetensors"
bool is_rank_file_name(std::string_view name) {
  if (!name.starts_with(kRankPrefix) || !name.ends_with(kRankSuffix)) return false;
  name.remove_prefix(kRankPrefix.size());
  if (name.size() < kRankSuffix.size()) return false;
  name.remove_suffix(kRankSuffix.size());
  const auto rank = number_of(name);
  return rank && padded(*rank, 5) == name;
}

}  // namespace

std::string checkpoint_folder_name(const CheckpointName& name) {
  auto text = concat(kFolderPrefix, padded(name.update, 9));
  return name.number > 1 ? concat(text, "-", name.number) : text;
}

std::optional<CheckpointName> parse_checkpoint_folder_name(std::string_view name) {
  if (!name.starts_with(kFolderPrefix)) return std::nullopt;
  const auto rest = name.substr(kFolderPrefix.size());
  const auto dash = rest.find('-');
  const auto update = number_of(rest.substr(0, dash));
  const auto number = dash == std::string_view::npos ? std::optional<std::int64_t>(1)
                                                     : number_of(rest.substr(dash + 1));
  if (!update || !number) return std::nullopt;
  const CheckpointName parsed{.update = *update, .number = *number};
  // The only way to write it, so that no two names say the same.
  if (checkpoint_folder_name(parsed) != name) return std::nullopt;
  return parsed;
}

bool is_checkpoint_file_name(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNames = {"model.safetensors", "optimizer.safetensors",
                                                      "state.safetensors", "state.json"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() || is_rank_file_name(name);
}

bool is_plain_file_name(std::string_view name) {
  constexpr std::size_t kNameBytes = 255;
  return !name.empty() && name.size() <= kNameBytes && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char letter) {
           return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                  (letter >= '0' && letter <= '9') || letter == '.' || letter == '_' ||
                  letter == '-';
         });
}

std::string new_token_name() {
  std::random_device random;
  std::string name(kTokenPrefix);
  for (std::size_t i = 0; i < kTokenDigits; ++i) name += "0123456789abcdef"[random() & 15];
  return name;
}

bool is_token_name(std::string_view name) {
  return name.size() == kTokenPrefix.size() + kTokenDigits && name.starts_with(kTokenPrefix) &&
         name.find_first_not_of("0123456789abcdef", kTokenPrefix.size()) == std::string_view::npos;
}

}  // namespace torch_accelerated
