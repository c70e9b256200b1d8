// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <string>

#include "torch_accelerated/base/random_stream.h"

namespace torch_accelerated::testing {

/// Whether the counts of a release are wanted (tests/run --long).
inline bool is_long_run() {
  const char* wanted = std::getenv("TORCH_ACCELERATED_LONG");
  return wanted != nullptr && std::string(wanted) == "1";
}

inline std::uint64_t mutation_seed() {
  const char* chosen = std::getenv("TORCH_ACCELERATED_SEED");
  return chosen == nullptr ? 20240607 : std::stoull(chosen);
}

/// Whether memory is counted by a sanitizer, whose own takes more than what is tested.
inline bool is_sanitised() {
#if defined(__SANITIZE_ADDRESS__)
  return true;
#elif defined(__has_feature)
  return __has_feature(address_sanitizer);
#else
  return false;
#endif
}

inline std::int64_t peak_memory_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

/// Makes one change to a file whose parts are text: a bit, a byte, a digit, one more or one less, a
/// piece copied over another, or the end cut off.
inline void mutate_text(std::string& bytes, RandomStream& stream) {
  constexpr char kEdges[] = {'\0', '0', '9', '-', '.', 'e', '"', '\\', ',',    ':',
                             '[',  ']', '{', '}', ' ', 'U', '_', '\t', '\x7F', '\xFF'};
  if (bytes.empty()) bytes += ' ';
  const std::size_t at =
      stream.below(stream.below(8) == 0 ? std::min<std::size_t>(bytes.size(), 8) : bytes.size());
  switch (stream.below(8)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << stream.below(8)));
      break;
    case 1:
      bytes[at] = kEdges[stream.below(std::size(kEdges))];
      break;
    case 2:
      bytes.insert(at, 1, kEdges[stream.below(std::size(kEdges))]);
      break;
    case 3:
      bytes.erase(at, 1 + stream.below(4));
      break;
    case 4:
    case 5: {  // digits keep the text well-formed, so that it gets to the later checks
      const std::size_t digit = bytes.find_first_of("0123456789", at);
      if (digit != std::string::npos) bytes[digit] = static_cast<char>('0' + stream.below(10));
      break;
    }
    case 6:
      bytes.replace(at, stream.below(40), bytes.substr(stream.below(bytes.size()), 40));
      break;
    default:
      bytes.resize(at);
  }
}

}  // namespace torch_accelerated::testing
