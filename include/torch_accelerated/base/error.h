// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

namespace torch_accelerated {

/// The base of every error that the library throws: one sentence with what came, what was expected
/// and what to try, and the place in the source where it was found.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message,
                 std::source_location place = std::source_location::current());

  /// Where in the library (or in the user's program) the error was made.
  const std::source_location& place() const noexcept { return place_; }

 private:
  std::source_location place_;
};

/// An argument or option that can't be used; nothing has been changed by the call.
class ArgumentError : public Error {
 public:
  using Error::Error;
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
};

/// A number that training can't go on with, such as a loss that is not finite.
class NumericError : public Error {
 public:
  using Error::Error;
};

/// A collective operation between ranks that failed.
class CommunicationError : public Error {
 public:
  using Error::Error;
};

/// What a step or callback of the user's threw, with where it happened; the exception itself is
/// nested (std::rethrow_if_nested).
class UserCodeError : public Error {
 public:
  using Error::Error;
};

}  // namespace torch_accelerated
