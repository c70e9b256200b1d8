// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace torch_accelerated {

/// The instructions that state dicts are made of.
enum PickleOpcode : unsigned char {
  kPickleMark = '(',
  kPickleStop = '.',
  kPickleEmptyTuple = ')',
  kPickleBinFloat = 'G',
  kPickleBinInt = 'J',
  kPickleBinInt1 = 'K',
  kPickleBinInt2 = 'M',
  kPickleNone = 'N',
  kPickleBinPersid = 'Q',
  kPickleReduce = 'R',
  kPickleBinUnicode = 'X',
  kPickleEmptyList = ']',
  kPickleAppend = 'a',
  kPickleBuild = 'b',
  kPickleGlobal = 'c',
  kPickleAppends = 'e',
  kPickleBinGet = 'h',
  kPickleLongBinGet = 'j',
  kPickleBinPut = 'q',
  kPickleLongBinPut = 'r',
  kPickleSetItem = 's',
  kPickleTuple = 't',
  kPickleSetItems = 'u',
  kPickleEmptyDict = '}',
  kPickleProto = 0x80,
  kPickleTuple1 = 0x85,
  kPickleTuple2 = 0x86,
  kPickleTuple3 = 0x87,
  kPickleNewTrue = 0x88,
  kPickleNewFalse = 0x89,
  kPickleLong1 = 0x8A,
  kPickleShortBinUnicode = 0x8C,
  kPickleStackGlobal = 0x93,
  kPickleMemoize = 0x94,
  kPickleFrame = 0x95,
};

/// The name of an instruction that is none of those, such as "NEWOBJ", or its number where pickle
/// has none.
std::string refused_opcode_name(unsigned char opcode);

}  // namespace torch_accelerated
