// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/trainer/callback_list.h"

#include <c10/util/Type.h>

#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

std::string Callback::name() const { return c10::demangle(typeid(*this).name()); }

Callback& CallbackList::add_owned(std::unique_ptr<Callback> callback) {
  for (const auto& other : callbacks_) {
    if (other->name() == callback->name()) {
      throw ArgumentError("CallbackList: there is a callback called '" + callback->name() +
                          "' already; add it once, or override name() to tell the two apart");
    }
  }
  callbacks_.push_back(std::move(callback));
  return *callbacks_.back();
}

}  // namespace torch_accelerated
