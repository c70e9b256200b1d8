// SPDX-License-Identifier: Apache-2.0
#include "accelerator/out_variants.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "accelerator/same_bits.h"

namespace torch_accelerated {
namespace {

// The overloads of each name that exist when it is first asked for.
const std::vector<c10::OperatorName>& overloads_of(const std::string& name) {
  static const auto all = [] {
    std::unordered_map<std::string, std::vector<c10::OperatorName>> overloads;
    for (const auto& each : c10::Dispatcher::singleton().getAllOpNames()) {
      overloads[each.name].push_back(each);
    }
    return overloads;
  }();
  static const std::vector<c10::OperatorName> none;
  const auto found = all.find(name);
  return found == all.end() ? none : found->second;
}

// Whether it takes the same arguments, and then one for each result.
bool is_out_variant(const c10::FunctionSchema& variant, const c10::FunctionSchema& schema) {
  const auto& arguments = schema.arguments();
  const auto& further = variant.arguments();
  if (further.size() != arguments.size() + schema.returns().size()) return false;
  const auto own_end = further.begin() + static_cast<std::ptrdiff_t>(arguments.size());
  return std::equal(arguments.begin(), arguments.end(), further.begin(),
                    [](const c10::Argument& a, const c10::Argument& b) {
                      return a.name() == b.name() && *a.type() == *b.type();
                    }) &&
         std::all_of(own_end, further.end(), [](const c10::Argument& a) { return a.is_out(); });
}

/// Hears of warnings in the place of the log.
class Warnings : public c10::WarningHandler {
 public:
  void process(const c10::Warning& /*warning*/) override { any_ = true; }
  bool any() const noexcept { return any_; }

 private:
  bool any_ = false;
};

// Some need their results larger for a while, or round otherwise.
bool does_the_same(const c10::OperatorHandle& variant, const torch::jit::Stack& arguments,
                   const torch::jit::Stack& results) {
  auto stack = arguments;
  std::vector<at::Tensor> scratch;
  for (const auto& result : results) {
    scratch.push_back(at::empty_like(result.toTensor()));
    stack.emplace_back(scratch.back());
  }
  Warnings warnings;
  {
    const c10::WarningUtils::WarningHandlerGuard guard(&warnings);
    variant.callBoxed(&stack);
  }
  if (warnings.any()) return false;
  return std::equal(scratch.begin(), scratch.end(), results.begin(),
                    [](const at::Tensor& a, const c10::IValue& result) {
                      const auto& b = result.toTensor();
                      return a.sizes() == b.sizes() && a.strides() == b.strides() &&
                             a.scalar_type() == b.scalar_type() &&
                             have_same_bits(a.contiguous(), b.contiguous());
                    });
}

}  // namespace

std::optional<c10::OperatorHandle> out_variant(const c10::OperatorHandle& operation,
                                               const torch::jit::Stack& arguments,
                                               const torch::jit::Stack& results) {
  const bool all_tensors = std::all_of(results.begin(), results.end(), [](const auto& result) {
    return result.isTensor() && result.toTensor().defined();
  });
  const bool draws = operation.hasTag(at::Tag::nondeterministic_seeded);
  if (results.empty() || !all_tensors || draws) return std::nullopt;
  for (const auto& name : overloads_of(operation.schema().name())) {
    const auto found = c10::Dispatcher::singleton().findSchema(name);
    if (found && is_out_variant(found->schema(), operation.schema()) &&
        found->hasKernelForDispatchKey(c10::DispatchKey::CPU)) {
      return does_the_same(*found, arguments, results) ? found : std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace torch_accelerated
