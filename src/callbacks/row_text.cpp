// SPDX-License-Identifier: Apache-2.0
#include "callbacks/row_text.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"

namespace torch_accelerated {
namespace {

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20; }

std::string json_string(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (is_control(c)) {
      const auto code = static_cast<unsigned char>(c);
      quoted += "\\u00";
      quoted += kDigits[code >> 4];
      quoted += kDigits[code & 15];
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

// Lines are what the file consists of, so a name may hold no line break.
std::string csv_field(std::string text) {
  std::replace_if(text.begin(), text.end(), is_control, ' ');
  if (text.find_first_of(",\"") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

// As it will read back.
std::string column_of(const std::string& metric) { return csv_fields(csv_field(metric)).front(); }

}  // namespace

std::string json_line(const HistoryRow& row) {
  auto line = "{\"epoch\":" + std::to_string(row.epoch) +
              ",\"updates\":" + std::to_string(row.updates) +
              ",\"intermediate\":" + (row.is_intermediate ? "true" : "false");
  for (const auto& [name, value] : row.metrics) {
    line += "," + json_string(name) + ":" + (std::isfinite(value) ? exact_text(value) : "null");
  }
  return line + "}\n";
}

std::vector<std::string> csv_fields(std::string_view line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted && c == '"' && i + 1 < line.size() && line[i + 1] == '"') {
      fields.back() += line[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return fields;
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (const auto& field : fields) line += (line.empty() ? "" : ",") + csv_field(field);
  return line + "\n";
}

std::vector<std::string> first_columns() { return {"epoch", "updates", "intermediate"}; }

bool add_columns(const HistoryRow& row, std::vector<std::string>& columns) {
  const auto before = columns.size();
  for (const auto& [name, value] : row.metrics) {
    auto column = column_of(name);
    if (std::find(columns.begin(), columns.end(), column) == columns.end()) {
      columns.push_back(std::move(column));
    }
  }
  return columns.size() > before;
}

std::string csv_line(const HistoryRow& row, const std::vector<std::string>& columns) {
  std::vector<std::string> fields(columns.size());
  fields[0] = std::to_string(row.epoch);
  fields[1] = std::to_string(row.updates);
  fields[2] = row.is_intermediate ? "true" : "false";
  for (const auto& [name, value] : row.metrics) {
    const auto place = std::find(columns.begin() + 3, columns.end(), column_of(name));
    if (place == columns.end()) continue;
    fields[static_cast<std::size_t>(place - columns.begin())] = exact_text(value);
  }
  return csv_line(fields);
}

}  // namespace torch_accelerated
