// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle_cursor.h"

#include "checkpoint/pickle_machine.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kAgain = "; download or copy the file again.";

}  // namespace

unsigned char PickleCursor::opcode() {
  at_ = next_;
  return static_cast<unsigned char>(number(1));
}

std::string_view PickleCursor::bytes(std::uint64_t size) {
  if (size > left()) refuse("it wants ", size, " bytes, but ", left(), " follow", kAgain);
  const std::string_view found = pickle_.substr(next_, static_cast<std::size_t>(size));
  next_ += found.size();
  return found;
}

std::string_view PickleCursor::text(std::uint64_t size) {
  if (size > PickleLimits::kTextBytes) {
    refuse("a text has ", size, " bytes, expected at most ", PickleLimits::kTextBytes, "; ",
           kTorchSaveCure, ".");
  }
  return bytes(size);
}

std::string_view PickleCursor::line() {
  const std::string_view rest = pickle_.substr(next_, PickleLimits::kGlobalBytes + 1);
  const std::size_t size = rest.find('\n');
  if (size == std::string_view::npos) {
    refuse("a name has no end within ", PickleLimits::kGlobalBytes, " bytes", kAgain);
  }
  next_ += size + 1;
  return rest.substr(0, size);
}

std::uint64_t PickleCursor::number(std::size_t size) { return little_endian(bytes(size), 0, size); }

PickleValue PickleCursor::long_number(std::uint64_t size) {
  const std::string_view digits = bytes(size);
  if (digits.size() > sizeof(std::int64_t)) return PickleNumber{};
  std::uint64_t value = little_endian(digits, 0, digits.size());
  const bool is_negative = !digits.empty() && (digits.back() & 0x80) != 0;
  if (is_negative && digits.size() < sizeof value) value |= ~std::uint64_t{0} << 8 * digits.size();
  return static_cast<std::int64_t>(value);
}

}  // namespace torch_accelerated
