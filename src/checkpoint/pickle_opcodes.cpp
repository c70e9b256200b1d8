// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle_opcodes.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/text.h"

namespace torch_accelerated {
namespace {

struct Opcode {
  unsigned char code;
  std::string_view name;
};

// Those that no state dict needs; PROTO only at the start.
constexpr std::array kRefused{
    Opcode{'0', "POP"},
    Opcode{'1', "POP_MARK"},
    Opcode{'2', "DUP"},
    Opcode{'B', "BINBYTES"},
    Opcode{'C', "SHORT_BINBYTES"},
    Opcode{'F', "FLOAT"},
    Opcode{'I', "INT"},
    Opcode{'L', "LONG"},
    Opcode{'P', "PERSID"},
    Opcode{'S', "STRING"},
    Opcode{'T', "BINSTRING"},
    Opcode{'U', "SHORT_BINSTRING"},
    Opcode{'V', "UNICODE"},
    Opcode{'d', "DICT"},
    Opcode{'g', "GET"},
    Opcode{'i', "INST"},
    Opcode{'l', "LIST"},
    Opcode{'o', "OBJ"},
    Opcode{'p', "PUT"},
    Opcode{kPickleProto, "PROTO"},
    Opcode{0x81, "NEWOBJ"},
    Opcode{0x82, "EXT1"},
    Opcode{0x83, "EXT2"},
    Opcode{0x84, "EXT4"},
    Opcode{0x8B, "LONG4"},
    Opcode{0x8D, "BINUNICODE8"},
    Opcode{0x8E, "BINBYTES8"},
    Opcode{0x8F, "EMPTY_SET"},
    Opcode{0x90, "ADDITEMS"},
    Opcode{0x91, "FROZENSET"},
    Opcode{0x92, "NEWOBJ_EX"},
    Opcode{0x96, "BYTEARRAY8"},
    Opcode{0x97, "NEXT_BUFFER"},
    Opcode{0x98, "READONLY_BUFFER"},
};

}  // namespace

std::string refused_opcode_name(unsigned char opcode) {
  const auto* row = std::find_if(kRefused.begin(), kRefused.end(),
                                 [&](const Opcode& known) { return known.code == opcode; });
  if (row == kRefused.end()) return concat("number ", static_cast<int>(opcode));
  return std::string(row->name);
}

}  // namespace torch_accelerated
