// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/state_text.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>
#include <utility>

#include "base/text.h"
#include "checkpoint/safetensors_text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(std::string_view file, const std::string& why) {
  throw CheckpointError(concat("'", file, "': ", why));
}

// Non-finite numbers have no place in JSON.
std::string number_text(double value) {
  if (std::isfinite(value)) return Json(value).dump();
  return concat(R"({"number":")", std::signbit(value) ? "-" : "", std::isnan(value) ? "nan" : "inf",
                R"("})");
}

std::string string_text(const std::string& value) {
  try {
    return Json(value).dump();
  } catch (const Json::type_error&) {
    throw ArgumentError(concat("a state has the text '", shown(value),
                               "', which is no UTF-8, so that no checkpoint can hold it; convert "
                               "it"));
  }
}

struct ValueText {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::int64_t value) const { return std::to_string(value); }
  std::string operator()(double value) const { return number_text(value); }
  std::string operator()(const std::string& value) const { return string_text(value); }
  std::string operator()(const std::vector<double>& values) const {
    std::string text = "[";
    for (const double value : values) {
      if (text.size() > 1) text += ',';
      text += number_text(value);
    }
    return text + ']';
  }
};

std::optional<double> special_number(const std::string& name) {
  if (name == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (name == "-nan") return -std::numeric_limits<double>::quiet_NaN();
  if (name == "inf") return std::numeric_limits<double>::infinity();
  if (name == "-inf") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

// Takes the events of the parser, so that no depth of nesting is ever followed.
class Handler : public nlohmann::json_sax<Json> {
 public:
  explicit Handler(std::string_view file) : file_(file) {}

  std::vector<StateEntry> take() { return std::move(entries_); }

  bool null() override { fail("null"); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override {
    return add(static_cast<std::int64_t>(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      fail("a number beyond 64 bits");
    }
    return add(static_cast<std::int64_t>(value));
  }
  bool number_float(number_float_t value, const string_t& text) override {
    // A whole number that no 64 bits hold comes as the nearest one that isn't whole.
    if (text.find_first_of(".eE") == std::string::npos) fail("a number beyond 64 bits");
    return add_number(value);
  }
  bool string(string_t& value) override {
    if (!in_special_) return add(std::move(value));
    special_ = special_number(value);
    if (!special_ || !special_named_) fail("an object that is no number");
    return true;
  }
  bool binary(binary_t&) override { fail("bytes"); }

  bool start_object(std::size_t) override {
    if (!in_object_) {
      in_object_ = true;
      return true;
    }
    if (in_special_ || name_.empty()) fail("an object");
    in_special_ = true;
    special_named_ = false;
    special_.reset();
    return true;
  }
  bool key(string_t& name) override {
    if (in_special_) {
      if (name != "number" || special_named_) fail("an object that is no number");
      special_named_ = true;
      return true;
    }
    if (name.empty()) fail("an entry without a name");
    if (entries_.size() >= StateTextLimits::kEntries) fail("too many entries");
    if (!names_.insert(name).second) fail(concat("the entry '", shown(name), "' twice"));
    name_ = std::move(name);
    return true;
  }
  bool end_object() override {
    if (!in_special_) return true;
    in_special_ = false;
    if (!special_) fail("an object that is no number");
    return add_number(*special_);
  }
  bool start_array(std::size_t) override {
    if (name_.empty() || in_special_ || list_) fail("an array");
    list_.emplace();
    return true;
  }
  bool end_array() override {
    auto values = std::move(*list_);
    list_.reset();
    return add(std::move(values));
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    refuse(file_, concat("is no JSON at byte ", position));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    refuse(file_, concat("has ", what, name_.empty() ? "" : " at or behind '", shown(name_),
                         name_.empty() ? "" : "'", ", which no state has"));
  }

  bool add_number(double value) {
    if (!list_) return add(value);
    list_->push_back(value);
    return true;
  }

  template <class Type>
  bool add(Type value) {
    if (name_.empty() || list_ || in_special_) fail("a value out of its place");
    entries_.emplace_back(std::exchange(name_, {}), std::move(value));
    return true;
  }

  std::string_view file_;
  std::vector<StateEntry> entries_;
  std::unordered_set<std::string> names_;
  std::string name_;  // of the entry that is being read
  std::optional<std::vector<double>> list_;
  bool in_object_ = false;
  bool in_special_ = false;
  bool special_named_ = false;
  std::optional<double> special_;
};

}  // namespace

std::string state_text(const std::vector<StateEntry>& values) {
  std::string text = "{";
  for (const auto& [name, value] : values) {
    if (name.empty()) throw ArgumentError("a state has a value without a name; give it one");
    if (text.size() > 1) text += ',';
    text += '\n' + ValueText()(name) + ": " + std::visit(ValueText(), value);
  }
  text += "\n}\n";
  if (values.size() > StateTextLimits::kEntries || text.size() > StateTextLimits::kBytes) {
    throw ArgumentError(concat("a state has ", values.size(), " values in ", text.size(),
                               " bytes of text, at most ", StateTextLimits::kEntries, " in ",
                               StateTextLimits::kBytes, " are read back; keep them in tensors"));
  }
  return text;
}

std::vector<StateEntry> parse_state_text(std::string_view text, std::string_view file_name) {
  if (text.size() > StateTextLimits::kBytes) {
    refuse(file_name,
           concat("has ", text.size(), " bytes, at most ", StateTextLimits::kBytes, " are read"));
  }
  Handler handler(file_name);
  if (!Json::sax_parse(text.begin(), text.end(), &handler)) refuse(file_name, "is no JSON object");
  // So that no cut goes unnoticed, not even the last byte's.
  if (!text.starts_with('{') || !text.ends_with("}\n")) {
    refuse(file_name, "doesn't begin and end as a state's text does");
  }
  return handler.take();
}

}  // namespace torch_accelerated
