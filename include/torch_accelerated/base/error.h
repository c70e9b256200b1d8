// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>

namespace torch_accelerated {

/// What a program returns to its shell after an error, after BSD's sysexits.h.
enum class ExitCode : int {
  kOptions = 64,      ///< an argument or option that can't be used
  kData = 65,         ///< input data that is not what it claims to be
  kUserCode = 70,     ///< an exception out of the program's own code, or a number that isn't finite
  kOutOfMemory = 71,  ///< memory, of the host or of a device
  kInputOutput = 74,  ///< a file or a disk
  kTimeout = 75,      ///< a rank didn't come, or was lost
  kMismatch = 76,     ///< ranks that don't fit together
};

/// The base of every error that the library throws: one sentence with what came, what was expected
/// and what to try, and the place in the source where it was found.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message,
                 std::source_location place = std::source_location::current());

  /// Where in the library (or in the user's program) the error was made.
  const std::source_location& place() const noexcept { return place_; }

  /// What `ta::run` makes main return.
  virtual ExitCode exit_code() const noexcept { return ExitCode::kUserCode; }

  /// The rank that found it, where a run of several ranks was going on.
  std::optional<int> rank() const noexcept { return rank_; }
  void set_rank(int rank) noexcept { rank_ = rank; }

  /// Whether all ranks throw together, so that none is left waiting for this one.
  bool is_on_all_ranks() const noexcept { return is_on_all_ranks_; }
  void set_on_all_ranks() noexcept { is_on_all_ranks_ = true; }

 private:
  std::source_location place_;
  std::optional<int> rank_;
  bool is_on_all_ranks_ = false;
};

/// An argument or option that can't be used; nothing has been changed by the call.
class ArgumentError : public Error {
 public:
  using Error::Error;
  ExitCode exit_code() const noexcept override { return ExitCode::kOptions; }
};

/// A call that doesn't fit what the object is doing, such as `step` before `start`.
class StateError : public Error {
 public:
  using Error::Error;
};

/// Input data that is not what it claims to be: a malformed file, a bad sample.
class DataError : public Error {
 public:
  using Error::Error;
  ExitCode exit_code() const noexcept override { return ExitCode::kData; }
};

/// A checkpoint or a file of weights that can't be used: torn, altered, or another model's.
class CheckpointError : public DataError {
 public:
  using DataError::DataError;
};

/// A file or a disk that can't be read or written, with what the system said.
class FileError : public Error {
 public:
  using Error::Error;
  ExitCode exit_code() const noexcept override { return ExitCode::kInputOutput; }
};

/// A number that training can't go on with, such as a loss that is not finite.
class NumericError : public Error {
 public:
  using Error::Error;
};

/// A collective operation between ranks that failed: a rank is lost, late or gone its own way.
class CommunicationError : public Error {
 public:
  explicit CommunicationError(const std::string& message,
                              std::source_location place = std::source_location::current())
      : Error(message, place) {}
  CommunicationError(const std::string& message, ExitCode exit_code,
                     std::source_location place = std::source_location::current())
      : Error(message, place), exit_code_(exit_code) {}

  ExitCode exit_code() const noexcept override { return exit_code_; }

 private:
  ExitCode exit_code_ = ExitCode::kTimeout;
};

/// What a step or callback of the user's threw, with where it happened; the exception itself is
/// nested (std::rethrow_if_nested).
class UserCodeError : public Error {
 public:
  explicit UserCodeError(const std::string& message, ExitCode exit_code = ExitCode::kUserCode,
                         std::source_location place = std::source_location::current())
      : Error(message, place), exit_code_(exit_code) {}

  ExitCode exit_code() const noexcept override { return exit_code_; }

 private:
  ExitCode exit_code_;
};

}  // namespace torch_accelerated
