// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "torch_accelerated/trainer/callback.h"

namespace torch_accelerated {

/// Callbacks in the order in which they are called; owns them.
class CallbackList {
 public:
  CallbackList() = default;

  /// A list of `callbacks`, each moved in.
  template <std::derived_from<Callback>... Callbacks>
    requires(sizeof...(Callbacks) > 0)
  explicit CallbackList(Callbacks... callbacks) {
    (add(std::move(callbacks)), ...);
  }

  CallbackList(CallbackList&&) noexcept = default;
  CallbackList& operator=(CallbackList&&) noexcept = default;

  /// Appends a callback and returns it, as the list now owns it.
  /// @throws ArgumentError  one of that name is in the list already.
  template <std::derived_from<Callback> C>
  C& add(C callback) {
    return static_cast<C&>(add_owned(std::make_unique<C>(std::move(callback))));
  }

  /// The callback of type C, or null.
  template <std::derived_from<Callback> C>
  C* find() const noexcept {
    for (const auto& callback : callbacks_) {
      if (auto* found = dynamic_cast<C*>(callback.get())) return found;
    }
    return nullptr;
  }

  std::size_t size() const noexcept { return callbacks_.size(); }
  auto begin() const noexcept { return callbacks_.begin(); }
  auto end() const noexcept { return callbacks_.end(); }

  /// Calls one event of all callbacks that have it, in order: one of the fifteen, or a program's
  /// own, an interface class with one virtual that a callback inherits beside Callback:
  /// `callbacks().notify(&OnFoo::on_foo, *this, event)`.
  template <class Listener, class Subject, class Event>
  void notify(void (Listener::*method)(Subject&, const Event&),
              std::type_identity_t<Subject>& subject, const std::type_identity_t<Event>& event) {
    // By index, as a callback may add another one.
    for (std::size_t i = 0; i < callbacks_.size(); ++i) {
      if (auto* listener = dynamic_cast<Listener*>(callbacks_[i].get())) {
        (listener->*method)(subject, event);
      }
    }
  }

 private:
  Callback& add_owned(std::unique_ptr<Callback> callback);

  std::vector<std::unique_ptr<Callback>> callbacks_;
};

/// PrintProgress, ProgressBar and LogMetrics: what a Trainer shows unless told otherwise.
CallbackList default_callbacks();

}  // namespace torch_accelerated
