// SPDX-License-Identifier: Apache-2.0
#include "accelerator/operation_recorder.h"

#include <torch/library.h>

#include <utility>

#include "accelerator/device_graph.h"

namespace torch_accelerated {
namespace {

// A key that LibTorch has for libraries like this one, and doesn't use itself: where a thread
// includes it, each operation comes here before its kernel.
constexpr auto kKey = c10::DispatchKey::Fake;

}  // namespace

void OperationRecorder::watch(const std::function<void()>& work) {
  install();
  struct Scope {
    OperationRecorder* outer;
    ~Scope() { current() = outer; }
  } const scope{std::exchange(current(), this)};
  const c10::impl::IncludeDispatchKeyGuard guard(kKey);
  work();
}

void OperationRecorder::unwatched(const std::function<void()>& work) {
  const c10::impl::ExcludeDispatchKeyGuard guard(kKey);
  work();
}

void OperationRecorder::do_it(const c10::OperatorHandle& operation, c10::DispatchKeySet keys,
                              torch::jit::Stack& stack) {
  const auto after = c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey);
  operation.redispatchBoxed(keys & after, &stack);
}

OperationRecorder*& OperationRecorder::current() noexcept {
  thread_local OperationRecorder* recorder = nullptr;
  return recorder;
}

void OperationRecorder::fall_back(const c10::OperatorHandle& operation, c10::DispatchKeySet keys,
                                  torch::jit::Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard guard(kKey);  // what a kernel asks for is its own matter
  if (current() == nullptr) throw CannotRecord("a part of it runs in a thread of its own");
  current()->operate(operation, keys, *stack);
}

// When it is first needed, so that a program that records nothing may use the key.
void OperationRecorder::install() {
  static const auto library = [] {
    torch::Library made(torch::Library::IMPL, "_", kKey, __FILE__, __LINE__);
    made.fallback(torch::CppFunction::makeFromBoxedFunction<&OperationRecorder::fall_back>());
    return made;
  }();
}

}  // namespace torch_accelerated
