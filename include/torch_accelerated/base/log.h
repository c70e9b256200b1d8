// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace torch_accelerated {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

/// Writes one line to the library's log, which goes to stderr; safe to call from any thread.
void log(LogLevel level, std::string_view message);

/// Hides lines below `level`; kInfo at the start.
void set_log_level(LogLevel level);

}  // namespace torch_accelerated
