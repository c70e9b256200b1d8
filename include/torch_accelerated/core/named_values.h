// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace torch_accelerated {

/// Values by name, in the order in which they were set. Few are looked up one by one, which costs
/// a batch nothing; many by hash, so that a model of ten thousand parameters has its state gathered
/// in milliseconds.
template <class Value>
class NamedValues {
 public:
  using Entry = std::pair<std::string, Value>;

  NamedValues() = default;
  NamedValues(const NamedValues& other)
      : entries_(other.entries_),
        places_(other.places_ ? std::make_unique<Places>(*other.places_) : nullptr) {}
  NamedValues(NamedValues&&) noexcept = default;
  NamedValues& operator=(const NamedValues& other) { return *this = NamedValues(other); }
  NamedValues& operator=(NamedValues&&) noexcept = default;
  ~NamedValues() = default;

  /// The value called `name`, or nullptr.
  const Value* find(std::string_view name) const noexcept {
    const auto place = place_of(name);
    return place < entries_.size() ? &entries_[place].second : nullptr;
  }

  /// Adds `value` under `name`, or puts it in the place of what stood there.
  void set(std::string_view name, Value value) {
    if (const auto place = place_of(name); place < entries_.size()) {
      entries_[place].second = std::move(value);
      return;
    }
    if (entries_.capacity() == 0) entries_.reserve(kUsual);
    entries_.emplace_back(name, std::move(value));
    if (entries_.size() <= kFew) return;
    if (!places_) places_ = std::make_unique<Places>();
    for (auto place = places_->size(); place < entries_.size(); ++place) {
      places_->emplace(entries_[place].first, place);
    }
  }

  /// Puts `change(value)` in the place of each value.
  template <class Change>
  void change_each(const Change& change) {
    for (auto& [name, value] : entries_) value = change(std::move(value));
  }

  void reserve(std::size_t count) { entries_.reserve(count); }

  const std::vector<Entry>& entries() const noexcept { return entries_; }

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view name) const noexcept {
      return std::hash<std::string_view>()(name);
    }
  };

  using Places = std::unordered_map<std::string, std::size_t, Hash, std::equal_to<>>;

  static constexpr std::size_t kUsual = 3;  // so many take one allocation
  static constexpr std::size_t kFew = 16;

  // entries_.size() where there is none.
  std::size_t place_of(std::string_view name) const noexcept {
    if (places_) {
      const auto known = places_->find(name);
      return known == places_->end() ? entries_.size() : known->second;
    }
    std::size_t place = 0;
    while (place < entries_.size() && entries_[place].first != name) ++place;
    return place;
  }

  std::vector<Entry> entries_;
  std::unique_ptr<Places> places_;  // beyond kFew
};

}  // namespace torch_accelerated
