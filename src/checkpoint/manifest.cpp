// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "base/text.h"
#include "checkpoint/checkpoint_names.h"
#include "checkpoint/safetensors_text.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/sha256.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kSealBegin = "  \"sha256\": \"";
constexpr std::string_view kSealEnd = "\"\n}\n";
constexpr std::size_t kDigestBytes = 64;
constexpr std::size_t kSealBytes = kSealBegin.size() + kDigestBytes + kSealEnd.size();

std::string digest_of(std::string_view text) {
  Sha256 sum;
  sum.update(text.data(), text.size());
  return sum.hex_digest();
}

bool is_version_text(std::string_view text) {
  return text.size() <= ManifestLimits::kLibraryBytes && !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char letter) {
           return letter >= '!' && letter <= '~' && letter != '"' && letter != '\\';
         });
}

// What is wrong with one file of it; empty where nothing is.
std::string problem_of(const ManifestFile& file) {
  if (!is_plain_file_name(file.name)) {
    return concat("a file is named '", shown(file.name),
                  "', expected 1 to 255 letters, digits, '.', '_' and '-', the first no '.'");
  }
  if (file.name == kManifestName || file.name == kNewManifestName) {
    return concat("'", file.name, "' is among its files, expected the others alone");
  }
  if (file.bytes > static_cast<std::uint64_t>(kLargestNumber)) {
    return concat("file '", file.name, "' has ", file.bytes, " bytes, expected at most 2^53");
  }
  return {};
}

// What is wrong with it; empty where nothing is.
std::string problem_of(const Manifest& manifest) {
  if (manifest.format != kCheckpointFormat) {
    return concat("its format is ", manifest.format, ", expected ", kCheckpointFormat);
  }
  if (!is_version_text(manifest.library)) {
    return concat("its library version is '", shown(manifest.library),
                  "', expected a text such as 0.1.0");
  }
  if (manifest.update < 0 || manifest.update > kLargestNumber) {
    return concat("its update is ", manifest.update, ", expected 0 to 2^53");
  }
  if (manifest.sequence < 1 || manifest.sequence > kLargestNumber) {
    return concat("its sequence is ", manifest.sequence, ", expected 1 to 2^53");
  }
  if (manifest.world_size < 1 || manifest.world_size > ManifestLimits::kWorldSize) {
    return concat("its world_size is ", manifest.world_size, ", expected 1 to ",
                  ManifestLimits::kWorldSize);
  }
  if (manifest.files.size() > ManifestLimits::kFiles) {
    return concat("it has ", manifest.files.size(), " files, expected at most ",
                  ManifestLimits::kFiles);
  }
  std::unordered_set<std::string_view> names;
  for (const ManifestFile& file : manifest.files) {
    if (auto problem = problem_of(file); !problem.empty()) return problem;
    if (!names.insert(file.name).second) {
      return concat("file '", file.name, "' is there twice, expected once");
    }
  }
  return {};
}

/// Reads the text from its beginning to its end, by what must come next.
class ManifestReader {
 public:
  ManifestReader(std::string_view text, std::string_view file_name)
      : text_(text), file_name_(file_name) {}

  Manifest read();

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    throw CheckpointError(concat("manifest '", file_name_, "': ", parts...));
  }

 private:
  bool take(std::string_view expected);
  void expect(std::string_view expected);
  std::int64_t number(std::string_view name, std::int64_t largest);
  double real_number(std::string_view name);
  std::string_view quoted();
  ManifestFile file();

  std::string_view rest() const { return text_.substr(at_); }

  [[noreturn]] void unexpected(std::string_view expected) const {
    refuse("offset ", at_, ": it has '", shown(rest().substr(0, 40)), "', expected ", expected,
           "; it was cut or altered: use an earlier checkpoint.");
  }

  std::string_view text_;
  std::string_view file_name_;
  std::size_t at_ = 0;
};

bool ManifestReader::take(std::string_view expected) {
  if (!rest().starts_with(expected)) return false;
  at_ += expected.size();
  return true;
}

void ManifestReader::expect(std::string_view expected) {
  if (!take(expected)) unexpected(concat("'", shown(expected), "'"));
}

std::int64_t ManifestReader::number(std::string_view name, std::int64_t largest) {
  expect(concat("\"", name, "\": "));
  std::int64_t value = -1;
  const char* begin = rest().data();
  const auto [end, error] = std::from_chars(begin, begin + rest().size(), value);
  if (error != std::errc() || value < 0 || value > largest) {
    unexpected(concat("a whole number from 0 to ", largest));
  }
  at_ += static_cast<std::size_t>(end - begin);
  return value;
}

double ManifestReader::real_number(std::string_view name) {
  expect(concat("\"", name, "\": "));
  double value = 0;
  const char* begin = rest().data();
  const auto [end, error] = std::from_chars(begin, begin + rest().size(), value);
  if (error != std::errc() || !std::isfinite(value)) unexpected("a finite number");
  at_ += static_cast<std::size_t>(end - begin);
  return value;
}

std::string_view ManifestReader::quoted() {
  expect("\"");
  const auto value = rest().substr(0, rest().find('"'));
  at_ += value.size();
  expect("\"");
  return value;
}

ManifestFile ManifestReader::file() {
  ManifestFile file;
  expect("    {\"name\": ");
  const auto name = quoted();
  if (!is_plain_file_name(name)) {  // before it is copied
    refuse("a file is named '", shown(name),
           "', expected letters, digits, '.', '_' and '-' alone; use an earlier checkpoint.");
  }
  file.name = name;
  expect(", ");
  file.bytes = static_cast<std::uint64_t>(number("bytes", kLargestNumber));
  expect(", \"crc32c\": ");
  const auto crc = crc_from_text(quoted());
  if (!crc) unexpected("8 hexadecimal digits before it");
  file.crc32c = *crc;
  expect("}");
  return file;
}

Manifest ManifestReader::read() {
  Manifest manifest;
  expect("{\n  ");
  const std::int64_t format = number("format", kLargestNumber);
  expect(",\n  \"library\": ");
  const auto library = quoted();
  if (!is_version_text(library)) {
    refuse("its library version is '", shown(library),
           "', expected a text such as 0.1.0; use an earlier checkpoint.");
  }
  manifest.library = library;
  if (format > kCheckpointFormat) {
    refuse("it was written by torch-accelerated ", library, " in format ", format,
           "; this version reads up to ", kCheckpointFormat, ": use a newer one.");
  }
  manifest.format = static_cast<int>(format);
  expect(",\n  ");
  manifest.update = number("update", kLargestNumber);
  expect(",\n  ");
  manifest.sequence = number("sequence", kLargestNumber);
  expect(",\n  ");
  manifest.world_size = static_cast<int>(number("world_size", ManifestLimits::kWorldSize));
  expect(",\n  ");
  if (take("\"is_kept\": true,\n  ")) manifest.is_kept = true;
  if (rest().starts_with("\"metric\"")) {
    manifest.metric = real_number("metric");
    expect(",\n  ");
  }
  expect("\"files\": [");
  while (!take("\n  ],\n")) {
    if (manifest.files.size() == ManifestLimits::kFiles) {
      refuse("another file follows the first ", ManifestLimits::kFiles,
             ", expected at most that many; use an earlier checkpoint.");
    }
    expect(manifest.files.empty() ? "\n" : ",\n");
    manifest.files.push_back(file());
  }
  return manifest;
}

// Whether the text ends as every manifest does.
bool is_sealed(std::string_view text) {
  return text.size() >= kSealBytes && text.ends_with(kSealEnd) &&
         text.substr(text.size() - kSealBytes).starts_with(kSealBegin);
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  if (const auto problem = problem_of(manifest); !problem.empty()) {
    throw ArgumentError(concat("manifest of a checkpoint: ", problem, "; nothing was written."));
  }
  std::string text =
      concat("{\n  \"format\": ", manifest.format, ",\n  \"library\": \"", manifest.library,
             "\",\n  \"update\": ", manifest.update, ",\n  \"sequence\": ", manifest.sequence,
             ",\n  \"world_size\": ", manifest.world_size, ",\n");
  if (manifest.is_kept) text += "  \"is_kept\": true,\n";
  if (manifest.metric && std::isfinite(*manifest.metric)) {
    text += concat("  \"metric\": ", exact_text(*manifest.metric), ",\n");
  }
  text += "  \"files\": [";
  for (std::size_t i = 0; i < manifest.files.size(); ++i) {
    const ManifestFile& file = manifest.files[i];
    text += concat(i == 0 ? "\n" : ",\n", "    {\"name\": \"", file.name,
                   "\", \"bytes\": ", file.bytes, ", \"crc32c\": \"", crc_text(file.crc32c), "\"}");
  }
  text += "\n  ],\n";
  return concat(text, kSealBegin, digest_of(text), kSealEnd);
}

Manifest parse_manifest(std::string_view text, std::string_view file_name) {
  ManifestReader reader(text, file_name);
  if (text.size() > ManifestLimits::kBytes) {
    reader.refuse("it has ", text.size(), " bytes, expected at most ", ManifestLimits::kBytes,
                  "; use an earlier checkpoint.");
  }
  if (is_sealed(text)) {  // first, so that a flipped bit isn't taken for a newer format
    const auto body = text.substr(0, text.size() - kSealBytes);
    const auto digest = text.substr(body.size() + kSealBegin.size(), kDigestBytes);
    const auto expected = digest_of(body);
    if (digest != expected) {
      reader.refuse("its sha256 is ", shown(digest), ", expected ", expected,
                    "; it was altered: use an earlier checkpoint.");
    }
  }
  Manifest manifest = reader.read();
  if (const auto problem = problem_of(manifest); !problem.empty()) {
    reader.refuse(problem, "; use an earlier checkpoint.");
  }
  if (manifest_text(manifest) != text) {
    reader.refuse("its ", text.size(),
                  " bytes are not those that its values are written as; it was cut or altered: use "
                  "an earlier checkpoint.");
  }
  return manifest;
}

}  // namespace torch_accelerated
