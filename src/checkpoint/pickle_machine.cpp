// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/pickle_machine.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "checkpoint/pickle_cursor.h"
#include "checkpoint/pickle_globals.h"
#include "checkpoint/pickle_opcodes.h"
#include "checkpoint/pickle_rebuild.h"
#include "checkpoint/pickle_stack.h"

namespace torch_accelerated {
namespace {

using Kind = PickleObject::Kind;
using Values = std::vector<PickleValue>;

constexpr std::string_view kAgain = "; download or copy the file again.";

class Machine {
 public:
  Machine(std::string_view pickle, std::string_view file_name)
      : cursor_(pickle, file_name),
        // A tensor takes some 100 bytes and 7 objects; short of that, little memory is at stake.
        most_objects_(std::min(PickleLimits::kObjects, 4096 + pickle.size() / 3)) {}

  PickleContents run();

 private:
  bool step();
  bool step_constant(unsigned char opcode);
  bool step_memo(unsigned char opcode);
  bool step_container(unsigned char opcode);
  bool step_call(unsigned char opcode);

  void push_object(Kind kind, Values parts);
  void append(Kind kind, const Values& parts);
  PickleObject& top_object(Kind kind);

  void push_global(std::string_view module, std::string_view name);
  void push_named_global();
  void load_storage();
  void call();
  void build();
  void push_rebuilt(const PickleProblem& problem, PickleObject object);

  PickleCursor cursor_;
  std::size_t most_objects_;
  PickleStack stack_{cursor_};
  PickleContents contents_;
};

void Machine::push_object(Kind kind, Values parts) {
  if (contents_.objects.size() >= most_objects_) {
    cursor_.refuse("more than ", most_objects_, " dicts, lists, tuples and tensors; ",
                   kTorchSaveCure, ".");
  }
  stack_.push(PickleReference{static_cast<std::uint32_t>(contents_.objects.size())});
  contents_.objects.push_back({kind, std::move(parts)});
}

PickleObject& Machine::top_object(Kind kind) {
  const PickleValue top = stack_.top();
  if (contents_.object(top, kind) == nullptr) {
    cursor_.refuse("something is put into ", pickle_kind(contents_, top), ", expected a ",
                   kind == Kind::kDict ? "dict" : "list", "; ", kTorchSaveCure, ".");
  }
  return contents_.objects[std::get<PickleReference>(top).index];
}

void Machine::append(Kind kind, const Values& parts) {
  if (kind == Kind::kDict && parts.size() % 2 != 0) cursor_.refuse("a key has no value", kAgain);
  PickleObject& object = top_object(kind);
  object.parts.insert(object.parts.end(), parts.begin(), parts.end());
}

void Machine::push_global(std::string_view module, std::string_view name) {
  const std::optional<PickleGlobal> global = pickle_global(module, name);
  if (!global) {
    cursor_.refuse("it asks for ", shown(module), ".", shown(name),
                   "; only tensors are read: ", kTorchSaveCure, ".");
  }
  stack_.push(*global);
}

void Machine::push_named_global() {
  const Values pair = stack_.pop_many(2);
  const auto* module = std::get_if<std::string_view>(&pair[0]);
  const auto* name = std::get_if<std::string_view>(&pair[1]);
  if (module == nullptr || name == nullptr) cursor_.refuse("a name is no text", kAgain);
  push_global(*module, *name);
}

void Machine::push_rebuilt(const PickleProblem& problem, PickleObject object) {
  if (problem.empty()) return push_object(object.kind, std::move(object.parts));
  const bool has_cure = problem.find(';') != std::string::npos;
  cursor_.refuse(problem, has_cure ? "" : "; ", has_cure ? "" : kTorchSaveCure, ".");
}

void Machine::load_storage() {
  PickleObject storage;
  const PickleProblem problem = rebuild_storage(contents_, stack_.pop(), storage);
  push_rebuilt(problem, std::move(storage));
}

void Machine::call() {
  const Values pair = stack_.pop_many(2);
  const auto* callee = std::get_if<PickleGlobal>(&pair[0]);
  const PickleObject* arguments = contents_.object(pair[1], Kind::kTuple);
  if (callee == nullptr || arguments == nullptr) {
    cursor_.refuse(
        "it calls ", pickle_kind(contents_, pair[0]), " with ", pickle_kind(contents_, pair[1]),
        ", expected a function that makes a tensor, with a tuple; ", kTorchSaveCure, ".");
  }
  PickleObject object;
  const PickleProblem problem = rebuild_object(contents_, *callee, *arguments, object);
  push_rebuilt(problem, std::move(object));
}

// The versions of the modules, which a state dict carries as an attribute, change no tensor.
void Machine::build() {
  const PickleValue state = stack_.pop();
  if (contents_.object(state, Kind::kDict) == nullptr) {
    cursor_.refuse("an object's state is ", pickle_kind(contents_, state), ", expected a dict; ",
                   kTorchSaveCure, ".");
  }
  top_object(Kind::kDict);
}

bool Machine::step_constant(unsigned char opcode) {
  switch (opcode) {
    case kPickleNone:
      stack_.push(PickleNone{});
      return true;
    case kPickleNewTrue:
    case kPickleNewFalse:
      stack_.push(opcode == kPickleNewTrue);
      return true;
    case kPickleBinInt:
      stack_.push(cursor_.long_number(4));
      return true;
    case kPickleBinInt1:
      stack_.push(static_cast<std::int64_t>(cursor_.number(1)));
      return true;
    case kPickleBinInt2:
      stack_.push(static_cast<std::int64_t>(cursor_.number(2)));
      return true;
    case kPickleLong1:
      stack_.push(cursor_.long_number(cursor_.number(1)));
      return true;
    case kPickleBinFloat:
      cursor_.bytes(8);
      stack_.push(PickleNumber{});
      return true;
    case kPickleShortBinUnicode:
      stack_.push(cursor_.text(cursor_.number(1)));
      return true;
    case kPickleBinUnicode:
      stack_.push(cursor_.text(cursor_.number(4)));
      return true;
    default:
      return false;
  }
}

bool Machine::step_memo(unsigned char opcode) {
  switch (opcode) {
    case kPickleBinPut:
      stack_.memoize(cursor_.number(1));
      return true;
    case kPickleLongBinPut:
      stack_.memoize(cursor_.number(4));
      return true;
    case kPickleMemoize:
      stack_.memoize();
      return true;
    case kPickleBinGet:
      stack_.push(stack_.remembered(cursor_.number(1)));
      return true;
    case kPickleLongBinGet:
      stack_.push(stack_.remembered(cursor_.number(4)));
      return true;
    default:
      return false;
  }
}

bool Machine::step_container(unsigned char opcode) {
  switch (opcode) {
    case kPickleMark:
      stack_.mark();
      return true;
    case kPickleEmptyTuple:
      push_object(Kind::kTuple, {});
      return true;
    case kPickleEmptyList:
      push_object(Kind::kList, {});
      return true;
    case kPickleEmptyDict:
      push_object(Kind::kDict, {});
      return true;
    case kPickleTuple1:
    case kPickleTuple2:
    case kPickleTuple3:
      push_object(Kind::kTuple, stack_.pop_many(opcode - kPickleTuple1 + 1U));
      return true;
    case kPickleTuple:
      push_object(Kind::kTuple, stack_.pop_to_mark());
      return true;
    case kPickleAppend:
      append(Kind::kList, stack_.pop_many(1));
      return true;
    case kPickleAppends:
      append(Kind::kList, stack_.pop_to_mark());
      return true;
    case kPickleSetItem:
      append(Kind::kDict, stack_.pop_many(2));
      return true;
    case kPickleSetItems:
      append(Kind::kDict, stack_.pop_to_mark());
      return true;
    default:
      return false;
  }
}

bool Machine::step_call(unsigned char opcode) {
  switch (opcode) {
    case kPickleGlobal: {
      const std::string_view module = cursor_.line();
      push_global(module, cursor_.line());
      return true;
    }
    case kPickleStackGlobal:
      push_named_global();
      return true;
    case kPickleBinPersid:
      load_storage();
      return true;
    case kPickleReduce:
      call();
      return true;
    case kPickleBuild:
      build();
      return true;
    case kPickleFrame:  // only a hint for reading ahead
      cursor_.bytes(8);
      return true;
    default:
      return false;
  }
}

// One instruction; false after the last.
bool Machine::step() {
  const unsigned char opcode = cursor_.opcode();
  if (opcode == kPickleStop) return false;
  if (step_constant(opcode) || step_memo(opcode) || step_container(opcode) || step_call(opcode)) {
    return true;
  }
  cursor_.refuse("it has the instruction ", refused_opcode_name(opcode),
                 "; only tensors are read: ", kTorchSaveCure, ".");
}

PickleContents Machine::run() {
  if (cursor_.left() > PickleLimits::kBytes) {
    cursor_.refuse("it takes ", cursor_.left(), " bytes, expected at most ", PickleLimits::kBytes,
                   "; ", kTorchSaveCure, ".");
  }
  const std::uint64_t protocol = cursor_.opcode() == kPickleProto ? cursor_.number(1) : 0;
  if (protocol < 2 || protocol > 5) {
    cursor_.refuse("its protocol is ", protocol, ", expected one of 2 to 5; ", kTorchSaveCure, ".");
  }
  while (step()) {
  }
  if (stack_.size() != 1 || stack_.has_marks() || cursor_.left() != 0) {
    cursor_.refuse("it ends with ", stack_.size(), " values and ", cursor_.left(),
                   " bytes after it, expected one value and none", kAgain);
  }
  contents_.root = stack_.top();
  return std::move(contents_);
}

}  // namespace

PickleContents read_pickle(std::string_view pickle, std::string_view file_name) {
  return Machine(pickle, file_name).run();
}

}  // namespace torch_accelerated
