// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace torch_accelerated {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

// Not registered under a name, so that a caller's own spdlog never meets it.
spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger created("torch_accelerated",
                           std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    created.set_pattern("[%n] %^%l%$: %v");
    return created;
  }();
  return instance;
}

}  // namespace

void log(LogLevel level, std::string_view message) {
  logger().log(to_spdlog(level), fmt::string_view(message.data(), message.size()));
}

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }

}  // namespace torch_accelerated
