// SPDX-License-Identifier: Apache-2.0
#include "distributed/tell.h"

#include <unistd.h>

#include "base/text.h"

namespace torch_accelerated::detail {

void tell(const std::string& text, int rank) noexcept {
  auto line = text.substr(0, text.find('\n'));
  if (rank >= 0 && !line.starts_with("rank ")) line = concat("rank ", rank, ": ", line);
  line += '\n';
  // In one piece: the launcher mixes what the ranks print.
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace torch_accelerated::detail
